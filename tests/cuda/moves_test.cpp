// Concat, Slice, Pad, Transpose, Reshape and Resize on the GPU against their references. All but
// Resize move elements, and give the reference's bytes.
#include <cmath>

#include "kernels/ops/concat/concat.h"
#include "kernels/ops/pad/pad.h"
#include "kernels/ops/reshape/reshape.h"
#include "kernels/ops/resize/resize.h"
#include "kernels/ops/slice/slice.h"
#include "kernels/ops/transpose/transpose.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaMoves = CudaTest;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr Bound kExact{0, 0};

TEST_F(CudaMoves, ConcatAlongEveryAxis) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t c : {1, 5, 16}) {
      const Tensor a = random({2, 3, 4, c}, 1).rounded_to(dtype);
      for (const int axis : {0, 1, 2, -1}) check_cuda(Concat{axis}, {a, a, a}, {}, kExact);
      const Tensor b = random({2, 3, 4, 3 * c}, 2).rounded_to(dtype);
      check_cuda(Concat{}, {a, b}, {}, kExact);
    }
  }
  const Tensor ids = Tensor::of_ids({2, 2}, {1, 2, 3, 4});
  check_cuda(Concat{1}, {ids, ids}, {}, kExact);
}

TEST_F(CudaMoves, SlicesForwardAndBackward) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t c : {1, 7, 16}) {
      const Tensor x = random({2, 5, 9, c}, 3).rounded_to(dtype);
      check_cuda(Slice{.starts = {1, 2}, .ends = {4, -1}, .axes = {1, 2}}, {x}, {}, kExact);
      check_cuda(Slice{.starts = {-1}, .ends = {-100}, .axes = {2}, .steps = {-2}}, {x}, {},
                 kExact);
      check_cuda(Slice{.starts = {0}, .ends = {100}, .axes = {3}, .steps = {3}}, {x}, {}, kExact);
    }
    const Tensor x = random({3, 4, 16}, 4).rounded_to(dtype);
    check_cuda(Slice{.starts = {3}, .ends = {11}, .axes = {-1}}, {x}, {}, kExact);  // odd start
  }
}

TEST_F(CudaMoves, TransposesAndReshapes) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t c : {1, 3, 8}) {
      const Tensor x = random({2, 5, 6, c}, 5).rounded_to(dtype);
      for (const std::vector<int>& order :
           {std::vector<int>{0, 3, 1, 2}, {}, {2, 0, 1, 3}, {0, 1, 2, 3}})
        check_cuda(Transpose{order}, {x}, {}, kExact);
      check_cuda(Reshape{{0, -1}}, {x}, {}, kExact);
    }
    check_cuda(Transpose{{5, 0, 4, 1, 3, 2}}, {random({2, 3, 2, 3, 2, 3}, 6).rounded_to(dtype)}, {},
               kExact);
  }
}

TEST_F(CudaMoves, PadsWithEveryBorder) {
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

// Weights of at most 4 x 4 products; 16 bits round once, and nearest copies.
TEST_F(CudaMoves, ResizesByEveryRule) {
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
    for (const auto nearest : {Nearest::kRoundPreferFloor, Nearest::kRoundPreferCeil,
                               Nearest::kFloor, Nearest::kCeil}) {
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

TEST_F(CudaMoves, RowOfABatchIsThatRowAlone) {
  const Tensor x = random({3, 5, 6, 3}, 8);
  check_cuda_batch(Resize{.mode = Resize::Mode::kLinear, .scale_h = 2, .scale_w = 2}, {x}, {});
  check_cuda_batch(Pad{Pad::Mode::kReflect, {0, 1, 1, 0, 0, 1, 1, 0}}, {x}, {});
  check_cuda_batch(Concat{}, {x, x}, {});
}

}  // namespace
}  // namespace tessera::test
