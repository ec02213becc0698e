// Reductions on the GPU against the reference.
#include "kernels/ops/reduce/reduce.h"

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaReduce = CudaTest;

// Sums are in double: one rounding.
TEST_F(CudaReduce, ReducesEveryKindOverAnyAxes) {
  for (std::size_t kind = 0; kind < names_of(Reduce::Kind{}).size(); ++kind) {
    for (const std::vector<int>& axes :
         {std::vector<int>{1, 2}, {3}, {0}, {0, 2}, {-1, 1}, {}, {1, 2, 3}}) {
      for (const bool keepdims : {false, true}) {
        const Reduce op{static_cast<Reduce::Kind>(kind), axes, keepdims};
        check_cuda(op, {random({2, 5, 7, 35}, 2)}, {}, {1e-9, 0x1p-23});
      }
      const Reduce op{static_cast<Reduce::Kind>(kind), axes};
      check_cuda(op, {random({2, 3, 1, 6}, 2).rounded_to(DType::kBF16)}, {}, {0, 0x1p-8});
    }
  }
  Tensor x = random({2, 4}, 3);
  x.view().as<float>()[5] = NAN;
  for (const auto kind : {Reduce::Kind::kMax, Reduce::Kind::kMin}) {
    const std::vector<float> y = run_cuda(Reduce{kind, {1}}, {x}, {})[0].values();
    EXPECT_TRUE(!std::isnan(y[0]) && std::isnan(y[1]));
  }
}

TEST_F(CudaReduce, RowOfABatchIsThatRowAlone) {
  check_cuda_batch(Reduce{Reduce::Kind::kMean, {1, 2}}, {random({3, 7, 8, 5}, 1)}, {});
}

}  // namespace
}  // namespace tessera::test
