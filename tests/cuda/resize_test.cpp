// Images in other sizes on the GPU against the reference.
#include "kernels/ops/resize/resize.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaResize = CudaTest;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr Bound kExact{0, 0};

// Weights of at most 4 x 4 products; 16 bits round once, and nearest copies.
TEST_F(CudaResize, ResizesByEveryRule) {
  using Coordinates = Resize::Coordinates;
  using Nearest = Resize::Nearest;
  for (const auto coordinates : {Coordinates::kHalfPixel, Coordinates::kPytorchHalfPixel,
                                 Coordinates::kAlignCorners, Coordinates::kAsymmetric}) {
    for (const auto mode : {Resize::Mode::kLinear, Resize::Mode::kCubic}) {
      const Resize op{.mode = mode, .coordinates = coordinates, .scale_h = 1.7, .scale_w = 0.6};
      for (const std::int64_t c : {1, 3, 16})
        check_cuda(op, {random({2, 5, 9, c}, 1)}, {}, sum_bound(16));
      check_cuda(op, {random({2, 5, 9, 5}, 1).rounded_to(DType::kBF16)}, {},
                 {sum_bound(16).absolute, 0x1p-8 + 0x1p-20});
    }
    for (const auto nearest :
         {Nearest::kRoundPreferFloor, Nearest::kRoundPreferCeil, Nearest::kFloor, Nearest::kCeil}) {
      for (const DType dtype : kFloats) {
        const Resize op{.coordinates = coordinates, .nearest = nearest, .sizes = {7, 5}};
        check_cuda(op, {random({1, 3, 8, 4}, 2).rounded_to(dtype)}, {}, kExact);
      }
    }
  }
  const std::vector<Tensor> with_skip{random({2, 3, 4, 5}, 3), random({2, 6, 7, 2}, 4)};
  check_cuda(Resize{.mode = Resize::Mode::kLinear}, with_skip, {}, sum_bound(4));
  check_cuda(Resize{.scale_h = 2, .scale_w = 2, .stretch = false}, with_skip, {}, kExact);
}

TEST_F(CudaResize, RowOfABatchIsThatRowAlone) {
  const Tensor x = random({3, 5, 6, 3}, 8);
  check_cuda_batch(Resize{.mode = Resize::Mode::kLinear, .scale_h = 2, .scale_w = 2}, {x}, {});
}

}  // namespace
}  // namespace tessera::test
