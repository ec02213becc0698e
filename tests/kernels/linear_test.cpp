#include "kernels/ops/linear/linear.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// Weights of this scale keep the sum of `features` products of order one.
Tensor weights_of(Shape shape, unsigned seed) {
  return random(shape, seed, 1.0f / std::sqrt(static_cast<float>(shape[-1])));
}

TEST(Linear, MatchesTheReferenceAtTileAndVectorEdges) {
  for_each_target([] {
    for (const std::int64_t rows : {1, 5, 6, 7, 47, 48, 49, 100}) {
      for (const int units : {1, 15, 16, 17, 63, 64, 65, 200}) {
        const std::int64_t features = units % 2 == 0 ? 33 : 1;
        SCOPED_TRACE(fmt::format("{} rows, {} units, {} features", rows, units, features));
        check_cpu(Linear{.units = units}, {random({rows, features}, 1)},
                  {weights_of({units, features}, 2), random({units}, 3)}, sum_bound(features + 1));
      }
    }
  });
}

TEST(Linear, AnyRankAndNoBias) {
  const Linear op{.units = 30, .bias = false};
  for (const Shape& shape : {Shape{100}, Shape{1, 100}, Shape{2, 3, 4, 100}}) {
    check_cpu(op, {random(shape, 1)}, {weights_of({30, 100}, 2)}, sum_bound(100));
  }
}

TEST(Linear, ReadsBf16Weights) {
  const Linear op{.units = 20};
  const Tensor weight = weights_of({20, 50}, 2).rounded_to(DType::kBF16);
  check_cpu(op, {random({9, 50}, 1)}, {weight, random({20}, 3).rounded_to(DType::kBF16)},
            sum_bound(51));
}

TEST(Linear, ARowAloneHasTheBytesItHasAmongMany) {
  const Linear op{.units = 77};
  const Tensor x = random({101, 40}, 1), weight = weights_of({77, 40}, 2), bias = random({77}, 3);
  const std::vector<float> all = run_cpu(op, {x}, {weight, bias}, 2)[0].values();
  const std::vector<float> values = x.values();
  for (const std::size_t row : {0, 5, 50, 100}) {
    const Tensor one = Tensor::of({1, 40}, {&values[row * 40], &values[row * 40] + 40});
    EXPECT_THAT(run_cpu(op, {one}, {weight, bias}, 1)[0].values(),
                testing::ElementsAreArray(&all[row * 77], 77));
  }
}

TEST(Linear, NanAndOutlierStayInTheirRow) {
  const Linear op{.units = 17};
  std::vector<float> x(3 * 8, 1.0f);
  x[8] = NAN;
  x[16] = 1e30f;
  const auto y = run_cpu(op, {Tensor::of({3, 8}, x)},
                         {Tensor::of({17, 8}, std::vector<float>(17 * 8, 1.0f)),
                          Tensor::of({17}, std::vector<float>(17, 0.5f))},
                         1)[0]
                     .values();
  for (std::size_t unit = 0; unit < 17; ++unit) {
    EXPECT_EQ(y[unit], 8.5f);
    EXPECT_TRUE(std::isnan(y[17 + unit]));
    EXPECT_EQ(y[34 + unit], 1e30f);
  }
}

TEST(Linear, WrongInputsAreErrors) {
  const auto infer_of = [](const Linear& op, std::vector<TensorType> inputs) {
    return [op, inputs] { infer(op, inputs); };
  };
  EXPECT_THAT(infer_of({.units = 0}, {{DType::kF32, {2}}}), ThrowsMessage<Error>(HasSubstr("0")));
  EXPECT_THAT(infer_of({.units = 3}, {}), ThrowsMessage<Error>(HasSubstr("found 0")));
  EXPECT_THAT(infer_of({.units = 3}, {{DType::kI32, {2}}}),
              ThrowsMessage<Error>(HasSubstr("i32 (2)")));
  EXPECT_THAT(infer_of({.units = 3}, {{DType::kF32, {2, 0}}}),
              ThrowsMessage<Error>(HasSubstr("(2, 0)")));
}

TEST(Linear, CostCountsMultiplyAndAdd) {
  const TensorType x{DType::kF32, {4, 8}};
  const Cost c = cost(Linear{.units = 3}, {&x, 1});
  EXPECT_EQ(c.flops, 2 * 4 * 8 * 3);
  EXPECT_EQ(c.bytes, 4 * (32 + 24 + 3 + 12));
}

}  // namespace
}  // namespace tessera::test
