// Group, instance and layer normalisation.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/group_norm/group_norm.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

template <class Op>
std::vector<Tensor> weights_of(const Op& op, const Tensor& x) {
  std::vector<Tensor> weights;
  for (const Parameter& p : parameters(op, {{x.type()}}))
    weights.push_back(test::random(p.shape, static_cast<unsigned>(weights.size() + 7)));
  return weights;
}

// Values within 5 deviations, a scale within 4: x - mean, the product and the sum round to 2^-24 of
// at most 20 each; bf16 rounds the result once more.
constexpr test::Bound kBound{80 * 0x1p-24, 0x1p-22};
constexpr test::Bound kBf16Bound{80 * 0x1p-24, 0x1p-8};

TEST(GroupNorm, MatchesTheReferenceAtEveryTailAndGroupOnEveryInstructionSet) {
  for (const auto& [c, groups] : {std::pair{1, 0}, {6, 3}, {16, 0}, {16, 1}, {17, 0}, {40, 8}}) {
    for (const bool affine : {false, true}) {
      SCOPED_TRACE(fmt::format("{} channels in {} groups", c, groups));
      const GroupNorm op{groups, 1e-5, affine};
      const Tensor x = test::random({2, 5, 7, c}, 3);
      test::for_each_target([&] {
        test::check_cpu(op, {x}, weights_of(op, x), kBound);
        test::check_cpu(op, {x.rounded_to(DType::kBF16)}, weights_of(op, x), kBf16Bound);
      });
    }
  }
}

// What passes put behind it: an activation adds 6 ULP.
TEST(GroupNorm, TakesAResidualAndAnActivation) {
  for (std::size_t kind = 0; kind < names_of(Activation::Kind{}).size(); ++kind) {
    for (const bool residual : {false, true}) {
      SCOPED_TRACE(fmt::format("{}, {}", names_of(Activation::Kind{})[kind], residual));
      GroupNorm op;
      op.epilogue.activation = Activation{.kind = static_cast<Activation::Kind>(kind)};
      op.epilogue.residual = residual;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        std::vector<Tensor> x{test::random({2, 5, 7, 19}, 3).rounded_to(dtype)};
        if (residual) x.push_back(test::random({2, 5, 7, 19}, 4).rounded_to(dtype));
        std::vector<Tensor> weights;
        for (const Parameter& p : parameters(op, test::types(x)))
          weights.push_back(test::random(p.shape, static_cast<unsigned>(weights.size() + 7)));
        test::Bound bound = dtype == DType::kF32 ? kBound : kBf16Bound;
        bound.absolute *= 1.2, bound.relative += 6 * 0x1p-23;
        test::check_cpu(op, x, weights, bound);
      }
    }
  }
}

// Several pieces of pixels, whose sums threads make.
TEST(GroupNorm, MatchesAcrossTasks) {
  const Tensor x = test::random({2, 150, 90, 3}, 4);
  for (const int groups : {0, 1})
    test::check_cpu(GroupNorm{groups}, {x}, weights_of(GroupNorm{groups}, x), kBound);
}

// 1000 deviations from zero: x itself is rounded to 2^-14 of a deviation, and mean likewise.
TEST(GroupNorm, KeepsWhatALargeMeanHides) {
  std::vector<float> values = test::random({1, 40, 40, 2}, 5).values();
  for (float& value : values) value += 1000;
  const Tensor x = Tensor::of({1, 40, 40, 2}, values);
  test::check_cpu(GroupNorm{.affine = false}, {x}, {}, {0x1p-13, 0x1p-20});
}

TEST(GroupNorm, AConstantMapBecomesBeta) {
  const Tensor x = Tensor::of({1, 3, 3, 2}, std::vector<float>(18, 0.1f));
  const std::vector<Tensor> weights{Tensor::of({2}, {3, 4}), Tensor::of({2}, {5, 6})};
  const std::vector<float> y = test::run_cpu(GroupNorm{}, {x}, weights, 2)[0].values();
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], i % 2 == 0 ? 5 : 6, 1e-4);
}

TEST(GroupNorm, AnImageOfABatchEqualsItAlone) {
  const Tensor both = test::random({2, 8, 9, 5}, 6);
  const std::vector<float> all = both.values();
  const std::vector<float> last(all.begin() + 360, all.end());
  const GroupNorm op{.affine = false};
  const std::vector<float> y = test::run_cpu(op, {both}, {}, 2)[0].values();
  EXPECT_EQ(std::vector<float>(y.begin() + 360, y.end()),
            test::run_cpu(op, {Tensor::of({1, 8, 9, 5}, last)}, {}, 1)[0].values());
}

TEST(GroupNorm, NaNStaysInItsGroup) {
  std::vector<float> values = test::random({1, 2, 2, 4}, 8).values();
  values[0] = NAN;
  const std::vector<float> y =
      test::run_cpu(GroupNorm{2, 1e-5, false}, {Tensor::of({1, 2, 2, 4}, values)}, {}, 1)[0]
          .values();
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 4 < 2) << i;
}

TEST(GroupNorm, NamesWhatItCannotTake) {
  EXPECT_THAT(
      [] {
        infer(GroupNorm{3}, {{{DType::kF32, {1, 4, 4, 8}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("8 channels")));
  EXPECT_THAT(
      [] {
        infer(GroupNorm{}, {{{DType::kF32, {4}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("f32 (4)")));
}

TEST(LayerNorm, MatchesTheFormula) {
  const Tensor x = Tensor::of({2, 2}, {1, 3, -4, -4});
  const std::vector<Tensor> weights{Tensor::of({2}, {2, 2}), Tensor::of({2}, {0, 1})};
  EXPECT_THAT(test::run_cpu(LayerNorm{0x1p-40}, {x}, weights, 1)[0].values(),
              testing::ElementsAre(testing::FloatEq(-2), testing::FloatEq(3), 0, 1));
}

}  // namespace
}  // namespace tessera
