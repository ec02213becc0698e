#include "kernels/ops/reduce/reduce.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"

namespace tessera {
namespace {

using test::Tensor;
using testing::ElementsAre;

const Tensor kMap = Tensor::of({2, 3}, {1, 2, 3, -4, 5, -6});

std::vector<float> run(const Reduce& op, const Tensor& x) {
  return test::run_cpu(op, {x}, {}, 1)[0].values();
}

TEST(Reduce, FoldsTheAxesItNames) {
  using Kind = Reduce::Kind;
  EXPECT_THAT(run({Kind::kSum, {0}}, kMap), ElementsAre(-3, 7, -3));
  EXPECT_THAT(run({Kind::kMean, {-1}}, kMap), ElementsAre(2, testing::FloatEq(-5.0f / 3)));
  EXPECT_THAT(run({Kind::kMax, {}}, kMap), ElementsAre(5));
  EXPECT_THAT(run({Kind::kMin, {1, 0}}, kMap), ElementsAre(-6));
}

TEST(Reduce, KeepsOrDropsAxes) {
  const std::vector<TensorType> x{{DType::kBF16, {2, 5, 7, 3}}};
  EXPECT_EQ(infer(Reduce{.axes = {1, 2}}, x)[0], (TensorType{DType::kBF16, {2, 1, 1, 3}}));
  EXPECT_EQ(infer(Reduce{.axes = {-2, 1}, .keepdims = false}, x)[0],
            (TensorType{DType::kBF16, {2, 3}}));
  EXPECT_EQ(infer(Reduce{.keepdims = false}, x)[0], (TensorType{DType::kBF16, {}}));
}

TEST(Reduce, NaNWins) {
  const Tensor x = Tensor::of({3, 2}, {1, NAN, NAN, 2, 3, 4});
  for (const auto kind : {Reduce::Kind::kMax, Reduce::Kind::kMin})
    EXPECT_THAT(run({kind, {0}}, x), testing::Each(testing::IsNan()));
}

TEST(Reduce, NamesWhatItCannotTake) {
  EXPECT_THAT([] { infer(Reduce{.axes = {2}}, {{kMap.type()}}); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("axis 2")));
}

}  // namespace
}  // namespace tessera
