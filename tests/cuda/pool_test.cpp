// Pools of any window on the GPU against their references.
#include <cmath>

#include "kernels/ops/avg_pool/avg_pool.h"
#include "kernels/ops/max_pool/max_pool.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaPool = CudaTest;

const std::vector<Window> kWindows{square(2, 0, 2), square(3, 1, 2), square(2, 1, 3),
                                   Window{{3, 2}, {1, 2}, {2, 1}, {1, 0, 0, 1}}};

double rounding_of(DType dtype) {
  return dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 8 * 0x1p-24;
}

// The largest is one of the elements; a mean of 9 rounds each sum, and the quotient once.
TEST_F(CudaPool, EveryWindowAndTail) {
  for (const Window& window : kWindows) {
    for (const std::int64_t c : {1, 3, 5, 64}) {
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
        for (const bool on : {false, true}) {
          SCOPED_TRACE(fmt::format("{}x{}, {} channels, {}", window.kernel[0], window.kernel[1], c,
                                   name_of(dtype)));
          const Tensor x = random({2, 6, 7, c}, 5).rounded_to(dtype);
          check_cuda(MaxPool{window, on}, {x}, {}, {0, 0});
          check_cuda(AvgPool{window, on, !on}, {x}, {}, {36 * 0x1p-24, rounding_of(dtype)});
        }
      }
      check_cuda(AvgPool{window, true, true}, {random({1, 5, 8, c}, 6)}, {}, sum_bound(9));
    }
  }
}

TEST_F(CudaPool, AWindowWithoutPixels) {
  const Window apart{{2, 1}, {1, 1}, {2, 1}, {1, 1, 0, 0}};
  const Tensor x = Tensor::of({1, 1, 1, 1}, {3});
  EXPECT_EQ(run_cuda(AvgPool{apart, false, false}, {x}, {})[0].values()[0], 0);
  EXPECT_EQ(run_cuda(MaxPool{apart}, {x}, {})[0].values()[0], -INFINITY);
}

TEST_F(CudaPool, NanWins) {
  std::vector<float> values = random({1, 5, 5, 1}, 1).values();
  values[12] = NAN;  // the centre, in each window of 3x3
  const Tensor x = Tensor::of({1, 5, 5, 1}, values);
  for (const float y : run_cuda(MaxPool{square(3)}, {x}, {})[0].values())
    EXPECT_TRUE(std::isnan(y));
}

TEST_F(CudaPool, RowOfABatchIsThatRowAlone) {
  const Tensor x = random({3, 7, 8, 5}, 1);
  check_cuda_batch(MaxPool{kWindows[1]}, {x}, {});
  check_cuda_batch(AvgPool{kWindows[1]}, {x}, {});
}

}  // namespace
}  // namespace tessera::test
