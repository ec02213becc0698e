// Max-pooling on the GPU: a choice of elements, so equal to the reference to the byte.
#include <cmath>

#include "kernels/ops/max_pool/max_pool.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaMaxPool = CudaTest;

TEST_F(CudaMaxPool, AgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    // Channels: one, odd, whole vectors of 16 bytes, and one more or less.
    for (const std::int64_t c : {1, 3, 7, 8, 9, 64}) {
      for (const auto& [h, w] : {std::pair{2, 2}, {3, 5}, {8, 6}, {9, 37}}) {
        SCOPED_TRACE(fmt::format("{} {}x{}x{}", name_of(dtype), h, w, c));
        check_cuda(MaxPool{}, {random({2, h, w, c}, 1).rounded_to(dtype)}, {}, {0, 0});
      }
    }
  }
}

TEST_F(CudaMaxPool, RowOfABatchIsThatRowAlone) {
  check_cuda_batch(MaxPool{}, {random({3, 6, 10, 5}, 1)}, {});
}

TEST_F(CudaMaxPool, NanWinsAndInfinityIsANumber) {
  std::vector<float> x = random({1, 4, 4, 2}, 1).values();
  x[0] = NAN;
  x[5] = INFINITY;
  x[30] = -INFINITY;
  const auto y = run_cuda(MaxPool{}, {Tensor::of({1, 4, 4, 2}, x)}, {})[0].values();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[3], INFINITY);
  EXPECT_TRUE(std::isfinite(y[6]));
}

}  // namespace
}  // namespace tessera::test
