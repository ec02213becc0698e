#include "kernels/ops/upsample/upsample.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

// Three interpolations a + t (b - a) in sequence, two deep: each rounds t, b - a and the sum, whose
// magnitudes are at most 2 m for values within m. The second inherits the first's error: below
// 16 m 2^-24.
test::Bound bound(float m) {
  return {16 * static_cast<double>(m) * 0x1p-24, 0};
}
// bf16 adds one rounding to 8 significant bits.
test::Bound bf16_bound(float m) {
  return {bound(m).absolute, 0x1p-8};
}

constexpr float kLargest = 6;  // of the normal values here

TEST(Upsample, GivesTheTextbookValues) {
  const Tensor x = Tensor::of({1, 1, 2, 1}, {0, 4});
  const auto run = [&](bool align_corners) {
    return test::run_cpu(Upsample{align_corners}, {x}, {}, 1)[0].values();
  };
  using testing::ElementsAre;
  using testing::FloatEq;
  EXPECT_THAT(run(false), ElementsAre(0, 1, 3, 4, 0, 1, 3, 4));
  EXPECT_THAT(run(true), ElementsAre(0, FloatEq(4.0f / 3), FloatEq(8.0f / 3), 4, 0,
                                     FloatEq(4.0f / 3), FloatEq(8.0f / 3), 4));
}

TEST(Upsample, MatchesTheReferenceAtEveryChannelTailAndSize) {
  for (const bool align_corners : {false, true}) {
    for (const std::int64_t c : {1, 3, 8, 15, 16, 17, 33}) {
      for (const auto& [h, w] : {std::pair{1, 1}, {1, 4}, {2, 1}, {5, 7}}) {
        SCOPED_TRACE(fmt::format("{} x {} x {}, {}", h, w, c, align_corners));
        const Tensor x = test::random({2, h, w, c}, 5);
        test::check_cpu(Upsample{align_corners}, {x}, {}, bound(kLargest));
        test::check_cpu(Upsample{align_corners}, {x.rounded_to(DType::kBF16)}, {},
                        bf16_bound(kLargest));
      }
    }
  }
}

TEST(Upsample, MatchesOnEveryInstructionSet) {
  const Tensor x = test::random({1, 4, 5, 19}, 6);
  test::for_each_target([&] {
    for (const bool align_corners : {false, true}) {
      test::check_cpu(Upsample{align_corners}, {x}, {}, bound(kLargest));
      test::check_cpu(Upsample{align_corners}, {x.rounded_to(DType::kBF16)}, {},
                      bf16_bound(kLargest));
    }
  });
}

TEST(Upsample, Bf16IsTheF32ResultRoundedOnce) {
  const Tensor x = test::random({1, 6, 5, 21}, 7).rounded_to(DType::kBF16);
  for (const bool align_corners : {false, true}) {
    const Upsample op{align_corners};
    const Tensor wide = test::run_cpu(op, {x.rounded_to(DType::kF32)}, {}, 1)[0];
    EXPECT_TRUE(test::run_cpu(op, {x}, {}, 1)[0].same_bytes(wide.rounded_to(DType::kBF16)));
  }
}

// Large maps, where the source coordinate of a rounded formula could slip to another pixel.
TEST(Upsample, KeepsCoordinatesExactOnLongAxes) {
  for (const bool align_corners : {false, true}) {
    const Tensor x = test::random({1, 1, 3001, 1}, 8);
    test::check_cpu(Upsample{align_corners}, {x}, {}, bound(kLargest));
  }
}

TEST(Upsample, LeavesAConstantMapAlone) {
  const Tensor x = Tensor::of({1, 3, 3, 2}, std::vector<float>(18, 0.1f));
  for (const float value : test::run_cpu(Upsample{true}, {x}, {}, 1)[0].values())
    EXPECT_EQ(value, 0.1f);
}

TEST(Upsample, NamesWhatItCannotTake) {
  const std::vector<TensorType> bytes{{DType::kU8, {1, 4, 4, 2}}};
  const std::vector<TensorType> flat{{DType::kF32, {4, 4}}};
  EXPECT_THAT([&] { infer(Upsample{}, bytes); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("u8 (1, 4, 4, 2)")));
  EXPECT_THAT([&] { infer(Upsample{}, flat); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("(4, 4)")));
}

}  // namespace
}  // namespace tessera
