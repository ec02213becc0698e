// Group and instance normalisation on the GPU against the reference.
#include "kernels/ops/group_norm/group_norm.h"

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaGroupNorm = CudaTest;

std::vector<Tensor> weights_of(const GroupNorm& op, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> weights;
  for (const Parameter& p : parameters(op, types(inputs)))
    weights.push_back(random(p.shape, static_cast<unsigned>(weights.size() + 7)));
  return weights;
}

// As on the CPU: values within 5 deviations, a scale within 4, so that x - mean, the product and
// the sum round to 2^-24 of at most 20 each; a residual adds one of them; 16 bits round the result
// once more.
Bound bound_for(DType dtype) {
  return {110 * 0x1p-24, dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-21};
}

TEST_F(CudaGroupNorm, AgreesWithTheReferenceInEveryGroupAndType) {
  for (const auto& [c, groups] :
       {std::pair{1, 0}, {3, 0}, {6, 3}, {16, 0}, {16, 1}, {17, 0}, {40, 8}, {132, 0}}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(fmt::format("{} channels in {} groups, {}", c, groups, name_of(dtype)));
      const GroupNorm op{groups, 1e-5, c != 6};
      const Tensor x = random({2, 5, 7, c}, 3).rounded_to(dtype);
      check_cuda(op, {x}, weights_of(op, {x}), bound_for(dtype));
    }
  }
}

// More pixels than one block sums; other ranks; one pixel, whose variance is 0.
TEST_F(CudaGroupNorm, AnySizeAndRank) {
  const GroupNorm op;
  for (const Shape& shape :
       {Shape{1, 50, 83, 5}, {2, 2048, 1, 4}, {1, 2049, 4}, {2, 8}, {1, 1, 1, 3}}) {
    SCOPED_TRACE(shape.to_string());
    const Tensor x = random(shape, 3);
    check_cuda(op, {x}, weights_of(op, {x}), bound_for(DType::kF32));
  }
}

TEST_F(CudaGroupNorm, TakesAResidualAndAnyActivation) {
  for (std::size_t kind = 0; kind < names_of(Activation::Kind{}).size(); ++kind) {
    SCOPED_TRACE(names_of(Activation::Kind{})[kind]);
    GroupNorm op;
    op.epilogue.activation = Activation{.kind = static_cast<Activation::Kind>(kind)};
    for (const std::int64_t c : {5, 8}) {
      op.epilogue.residual = c == 5;
      std::vector<Tensor> inputs{random({2, 5, 7, c}, 3)};
      if (op.epilogue.residual) inputs.push_back(random({2, 5, 7, c}, 4));
      check_cuda(op, inputs, weights_of(op, inputs), bound_for(DType::kF32));
    }
  }
}

// A mean of 1000 deviations: x has 2^-24 x 1000 of a deviation left, y as much.
TEST_F(CudaGroupNorm, ALargeMeanKeepsTheDigitsThatXHas) {
  std::vector<float> values = random({1, 8, 9, 4}, 5).values();
  for (float& value : values) value += 1000;
  const Tensor x = Tensor::of({1, 8, 9, 4}, values);
  const GroupNorm op{.affine = false};
  check_cuda(op, {x}, {}, {1000 * 0x1p-23, 0x1p-20});
}

TEST_F(CudaGroupNorm, RowOfABatchIsThatRowAlone) {
  const GroupNorm op{2};
  const Tensor x = random({3, 6, 7, 6}, 18);
  check_cuda_batch(op, {x}, weights_of(op, {x}));
}

TEST_F(CudaGroupNorm, NanStaysInItsGroupAndImage) {
  Tensor x = random({2, 3, 3, 4}, 19);
  x.view().as<float>()[1] = NAN;
  const GroupNorm op{2};
  const auto y = run_cuda(op, {x}, weights_of(op, {x}))[0].values();
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i < 36 && i % 4 < 2) << i;
}

}  // namespace
}  // namespace tessera::test
