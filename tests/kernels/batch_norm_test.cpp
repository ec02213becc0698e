#include "kernels/ops/batch_norm/batch_norm.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

std::vector<Tensor> weights(std::int64_t c) {
  std::vector<float> variance;
  for (const float value : test::random({c}, 15).values())
    variance.push_back(0.25f + value * value);
  return {test::random({c}, 12), test::random({c}, 13), test::random({c}, 14),
          Tensor::of({c}, variance)};
}

// y = scale x + shift: scale, shift, product and sum round once each; with |x|, gamma, beta, mean
// below 5 and variance above 0.25 the terms stay below 5 * 5 / 0.5 = 50 each, so the error stays
// below (50 + 50 + 100 + 100) 2^-24.
constexpr test::Bound kBound{300 * 0x1p-24, 0};
constexpr test::Bound kBf16Bound{300 * 0x1p-24, 0x1p-8};  // and one rounding to 8 bits

TEST(BatchNorm, MatchesTheReferenceAtEveryChannelCount) {
  for (const std::int64_t c : {1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 100}) {
    for (const std::int64_t pixels : {1, 7, 16, 17}) {
      SCOPED_TRACE(fmt::format("{} x {}", pixels, c));
      const Tensor x = test::random({1, 1, pixels, c}, 16);
      test::check_cpu(BatchNorm{}, {x}, weights(c), kBound);
      test::check_cpu(BatchNorm{1e-3}, {x.rounded_to(DType::kBF16)}, weights(c), kBf16Bound);
    }
  }
}

TEST(BatchNorm, MatchesAcrossTasksAndRanks) {
  test::check_cpu(BatchNorm{}, {test::random({12001, 3}, 17)}, weights(3), kBound);
  test::check_cpu(BatchNorm{}, {test::random({5}, 17)}, weights(5), kBound);
}

TEST(BatchNorm, MatchesOnEveryInstructionSet) {
  const Tensor x = test::random({3, 5, 19}, 18);
  test::for_each_target([&] {
    test::check_cpu(BatchNorm{}, {x}, weights(19), kBound);
    test::check_cpu(BatchNorm{}, {x.rounded_to(DType::kBF16)}, weights(19), kBf16Bound);
  });
}

TEST(BatchNorm, TakesWeightsOfOtherTypes) {
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights(6)) narrow.push_back(weight.rounded_to(DType::kBF16));
  test::check_cpu(BatchNorm{}, {test::random({4, 6}, 19)}, narrow, kBound);
}

TEST(BatchNorm, Bf16IsTheF32ResultRoundedOnce) {
  const Tensor x = test::random({40, 21}, 20).rounded_to(DType::kBF16);
  const Tensor wide = test::run_cpu(BatchNorm{}, {x.rounded_to(DType::kF32)}, weights(21), 1)[0];
  EXPECT_TRUE(
      test::run_cpu(BatchNorm{}, {x}, weights(21), 1)[0].same_bytes(wide.rounded_to(DType::kBF16)));
}

TEST(BatchNorm, APixelDoesNotDependOnItsPosition) {
  const std::vector<float> all = test::random({37, 5}, 21).values();
  const std::vector<float> whole =
      test::run_cpu(BatchNorm{}, {Tensor::of({37, 5}, all)}, weights(5), 2)[0].values();
  for (std::size_t first : {1u, 6u, 36u}) {
    const std::vector<float> part(all.begin() + static_cast<std::ptrdiff_t>(5 * first), all.end());
    const std::vector<float> result =
        test::run_cpu(BatchNorm{}, {Tensor::of({37 - static_cast<std::int64_t>(first), 5}, part)},
                      weights(5), 1)[0]
            .values();
    EXPECT_EQ(result, std::vector<float>(whole.begin() + static_cast<std::ptrdiff_t>(5 * first),
                                         whole.end()));
  }
}

TEST(BatchNorm, AffineIsTheFormula) {
  const std::vector<Tensor> list{Tensor::of({1}, {3}), Tensor::of({1}, {1}), Tensor::of({1}, {2}),
                                 Tensor::of({1}, {4})};
  const Affine affine = affine_of(BatchNorm{0}, test::views(list));
  EXPECT_DOUBLE_EQ(affine.scale[0], 1.5);
  EXPECT_DOUBLE_EQ(affine.shift[0], -2);
}

TEST(BatchNorm, NamesWhatItCannotTake) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  for (const float variance : {-1.5f, NAN}) {
    std::vector<Tensor> list = weights(3);
    list[3] = Tensor::of({3}, {1, variance, 1});
    EXPECT_THAT([&] { affine_of(BatchNorm{}, test::views(list)); },
                ThrowsMessage<Error>(HasSubstr(fmt::format("channel 1 has {}", variance))));
  }
  const std::vector<TensorType> ids{{DType::kI32, {4, 3}}}, floats{{DType::kF32, {4, 3}}};
  EXPECT_THAT([&] { infer(BatchNorm{}, ids); }, ThrowsMessage<Error>(HasSubstr("i32 (4, 3)")));
  EXPECT_THAT([&] { infer(BatchNorm{-1}, floats); }, ThrowsMessage<Error>(HasSubstr("-1")));
}

}  // namespace
}  // namespace tessera
