#include "kernels/ops/linear/linear.h"

#include <cmath>

#include "kernels/ops/linear/cuda_weights.h"
#include "tests/support/cuda_check.h"
#include "tests/support/precision.h"

namespace tessera::test {
namespace {

using CudaLinear = CudaTest;

// Weights of this scale keep the sum of `features` products of order one.
Tensor weights_of(Shape shape, unsigned seed) {
  return random(shape, seed, 1.0f / std::sqrt(static_cast<float>(shape[-1])));
}

// A product of two rounded operands is off by twice their relative error. The products of a sum of
// n terms are of order 1 / sqrt(n), normally distributed, and so are their errors, of which 6
// standard deviations are allowed; tensor cores may truncate, hence 4 times the f32 part.
Bound bound_of(const ProductPrecision& p, std::int64_t features) {
  Bound bound = sum_bound(features + 1);
  if (p.math != Precision::kFp32) bound.absolute = 4 * bound.absolute + 6 * 2 * p.unit;
  return bound;
}

// The step of a device with `multiprocessors`: one of them makes every block take many rows.
std::vector<Tensor> run_on(int multiprocessors, const Linear& op, const Tensor& x,
                           const std::vector<Tensor>& weights, Precision math) {
  const auto make = [&](CudaSetup setup) {
    setup.traits.multiprocessors = multiprocessors;
    return cuda(op, setup);
  };
  return run_cuda_step(make, infer(op, types({x})), {x}, weights, {.math = math});
}

TEST_F(CudaLinear, MatchesTheReferenceAtTileEdges) {
  for (const ProductPrecision& p : kPrecisions) {
    for (const std::int64_t rows : {1, 15, 16, 17}) {
      // Units and features around the tiles' 64 columns and 16, 32, 64 features.
      for (const auto& [units, features] :
           {std::pair{1, 1}, {63, 16}, {64, 33}, {65, 64}, {130, 7}}) {
        SCOPED_TRACE(
            fmt::format("{}: {} rows, {} units, {} features", p.name, rows, units, features));
        check_cuda(Linear{.units = units}, {random({rows, features}, 1)},
                   {weights_of({units, features}, 2), random({units}, 3)}, bound_of(p, features),
                   {.math = p.math});
      }
    }
  }
}

TEST_F(CudaLinear, BothTilesGiveTheSameBytes) {
  const Linear op{.units = 66};
  const std::vector<Tensor> weights{weights_of({66, 35}, 2), random({66}, 3)};
  for (const ProductPrecision& p : kPrecisions) {
    for (const std::int64_t rows : {127, 129}) {
      const Tensor x = random({rows, 35}, 1);
      const Tensor many = run_on(1, op, x, weights, p.math)[0];
      EXPECT_TRUE(many.same_bytes(run_on(1000, op, x, weights, p.math)[0])) << p.name;
      expect_close(many, run_reference(op, {x}, weights)[0], bound_of(p, 35));
    }
  }
}

TEST_F(CudaLinear, ChoosesManyRowsOnceTheyFillTheDevice) {
  EXPECT_EQ(choose_gemm_rows(1, 1, 1), GemmRows::kMany);
  EXPECT_EQ(choose_gemm_rows(128, 1200, 132), GemmRows::kFew);
  EXPECT_EQ(choose_gemm_rows(9600, 1200, 132), GemmRows::kMany);
}

TEST_F(CudaLinear, AnyRankAndNoBias) {
  const Linear op{.units = 30, .bias = false};
  for (const Shape& shape : {Shape{50}, Shape{2, 3, 4, 50}})
    check_cuda(op, {random(shape, 1)}, {weights_of({30, 50}, 2)}, sum_bound(50));
}

TEST_F(CudaLinear, ReadsBf16Weights) {
  const Tensor weight = weights_of({20, 50}, 2).rounded_to(DType::kBF16);
  check_cuda(Linear{.units = 20}, {random({9, 50}, 1)},
             {weight, random({20}, 3).rounded_to(DType::kBF16)}, sum_bound(51));
}

TEST_F(CudaLinear, RowOfABatchIsThatRowAlone) {
  for (const ProductPrecision& p : kPrecisions)
    check_cuda_batch(Linear{.units = 21}, {random({9, 40}, 1)},
                     {weights_of({21, 40}, 2), random({21}, 3)}, {.math = p.math});
}

TEST_F(CudaLinear, NanAndOutlierStayInTheirRow) {
  for (const ProductPrecision& p : kPrecisions) {
    SCOPED_TRACE(p.name);
    std::vector<float> x(3 * 8, 1.0f);
    x[8] = NAN;
    x[16] = 32768.0f;
    const auto y = run_cuda(Linear{.units = 17}, {Tensor::of({3, 8}, x)},
                            {Tensor::of({17, 8}, std::vector<float>(17 * 8, 1.0f)),
                             Tensor::of({17}, std::vector<float>(17, 0.5f))},
                            {.math = p.math})[0]
                       .values();
    for (std::size_t unit = 0; unit < 17; ++unit) {
      EXPECT_EQ(y[unit], 8.5f);
      EXPECT_TRUE(std::isnan(y[17 + unit]));
      EXPECT_EQ(y[34 + unit], 32775.5f);
    }
  }
}

}  // namespace
}  // namespace tessera::test
