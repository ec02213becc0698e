// Borders on the GPU: the reference's bytes.
#include "kernels/ops/pad/pad.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaPad = CudaTest;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr Bound kExact{0, 0};

TEST_F(CudaPad, PadsWithEveryBorder) {
  for (const DType dtype : kFloats) {
    for (const auto mode : {Pad::Mode::kConstant, Pad::Mode::kReflect, Pad::Mode::kEdge}) {
      for (const std::int64_t c : {1, 3, 8}) {
        const Tensor x = random({2, 4, 5, c}, 7).rounded_to(dtype);
        check_cuda(Pad{mode, {0, 1, 3, 0, 0, 2, -1, 0}, 0.5}, {x}, {}, kExact);
      }
      check_cuda(Pad{mode, {1, 3, 1, 2}}, {random({3, 8}, 7).rounded_to(dtype)}, {}, kExact);
    }
  }
}

TEST_F(CudaPad, RowOfABatchIsThatRowAlone) {
  const Tensor x = random({3, 5, 6, 3}, 8);
  check_cuda_batch(Pad{Pad::Mode::kReflect, {0, 1, 1, 0, 0, 1, 1, 0}}, {x}, {});
}

}  // namespace
}  // namespace tessera::test
