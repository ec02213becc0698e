// Concat, Slice, Transpose and Reshape on the GPU move elements: the references' bytes.
#include "kernels/ops/concat/concat.h"
#include "kernels/ops/reshape/reshape.h"
#include "kernels/ops/slice/slice.h"
#include "kernels/ops/transpose/transpose.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaCopy = CudaTest;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr Bound kExact{0, 0};

TEST_F(CudaCopy, ConcatAlongEveryAxis) {
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

TEST_F(CudaCopy, SlicesForwardAndBackward) {
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

TEST_F(CudaCopy, TransposesAndReshapes) {
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

TEST_F(CudaCopy, RowOfABatchIsThatRowAlone) {
  const Tensor x = random({3, 5, 6, 3}, 8);
  check_cuda_batch(Concat{}, {x, x}, {});
}

}  // namespace
}  // namespace tessera::test
