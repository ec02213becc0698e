#include "kernels/ops/crop_concat/crop_concat.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"

namespace tessera {
namespace {

using test::Tensor;
using Align = CropConcat::Align;

constexpr test::Bound kExact{0, 0};  // a copy

std::vector<TensorType> maps(Shape skip, Shape up) {
  return {{DType::kF32, skip}, {DType::kF32, up}};
}

TEST(CropConcat, CropsAtTheCentreAndFloorsOddDifferences) {
  const auto sources = concat_sources({Align::kCropSkip, true}, maps({1, 9, 8, 4}, {1, 4, 4, 2}));
  EXPECT_EQ(sources[0].input, 0u);
  EXPECT_EQ(sources[0].dy, 2);  // 5 rows too many: 2 before, 3 behind
  EXPECT_EQ(sources[0].dx, 2);
  EXPECT_EQ(sources[1].input, 1u);
  EXPECT_EQ(sources[1].dy, 0);
  EXPECT_EQ(sources[1].dx, 0);
}

TEST(CropConcat, PadsWithTheSmallerHalfBefore) {
  const auto sources = concat_sources({Align::kPadUp, false}, maps({1, 9, 8, 4}, {1, 4, 8, 2}));
  EXPECT_EQ(sources[0].input, 1u);
  EXPECT_EQ(sources[0].dy, -2);
  EXPECT_EQ(sources[0].dx, 0);
  EXPECT_EQ(sources[1].input, 0u);
  EXPECT_EQ(sources[1].dy, 0);
}

TEST(CropConcat, JoinsByHand) {
  const Tensor skip = Tensor::of({1, 1, 3, 1}, {1, 2, 3}), up = Tensor::of({1, 1, 2, 1}, {8, 9});
  using testing::ElementsAre;
  const auto run = [&](CropConcat op) { return test::run_cpu(op, {skip, up}, {}, 1)[0].values(); };
  EXPECT_THAT(run({Align::kCropSkip, true}), ElementsAre(1, 8, 2, 9));
  EXPECT_THAT(run({Align::kCropSkip, false}), ElementsAre(8, 1, 9, 2));
  EXPECT_THAT(run({Align::kPadUp, true}), ElementsAre(1, 8, 2, 9, 3, 0));
}

TEST(CropConcat, MatchesTheReference) {
  for (const Align align : {Align::kCropSkip, Align::kPadUp}) {
    for (const bool skip_first : {true, false}) {
      for (const auto& [dy, dx] : {std::pair{0, 0}, {1, 0}, {0, 1}, {2, 3}, {5, 4}}) {
        for (const auto& [cs, cu] : {std::pair{1, 1}, {3, 5}, {16, 16}, {17, 33}}) {
          SCOPED_TRACE(fmt::format("crop {} skip_first {} difference {} {} channels {} {}",
                                   align == Align::kCropSkip, skip_first, dy, dx, cs, cu));
          const Tensor skip = test::random({2, 3 + dy, 4 + dx, cs}, 9);
          const Tensor up = test::random({2, 3, 4, cu}, 10);
          const CropConcat op{align, skip_first};
          test::check_cpu(op, {skip, up}, {}, kExact);
          test::check_cpu(op, {skip.rounded_to(DType::kBF16), up.rounded_to(DType::kBF16)}, {},
                          kExact);
        }
      }
    }
  }
}

TEST(CropConcat, ErrorsNameBothSizesAndTheRemedy) {
  using testing::AllOf;
  using testing::HasSubstr;
  const auto expect = [](CropConcat op, const std::vector<TensorType>& inputs, auto matcher) {
    EXPECT_THAT([&] { infer(op, inputs); }, testing::ThrowsMessage<Error>(matcher));
  };
  expect({Align::kCropSkip, true}, maps({1, 5, 9, 4}, {1, 6, 8, 2}),
         AllOf(HasSubstr("(1, 5, 9, 4)"), HasSubstr("(1, 6, 8, 2)"), HasSubstr("larger image")));
  expect({Align::kPadUp, true}, maps({1, 5, 7, 4}, {1, 4, 8, 2}),
         AllOf(HasSubstr("(1, 5, 7, 4)"), HasSubstr("(1, 4, 8, 2)"), HasSubstr("up-sampling")));
  expect({}, maps({1, 5, 7, 4}, {2, 4, 4, 2}),
         AllOf(HasSubstr("(1, 5, 7, 4)"), HasSubstr("(2, 4, 4, 2)")));
  expect({}, {{DType::kF32, {1, 5, 5, 4}}, {DType::kBF16, {1, 5, 5, 4}}},
         AllOf(HasSubstr("f32"), HasSubstr("bf16")));
  expect({}, {{DType::kF32, {1, 5, 5, 4}}}, HasSubstr("got 1"));
}

TEST(CropConcat, CostLeavesOutWhatTheCropDoesNotRead) {
  // 4 x 4 pixels of 4 + 2 floats, read and written once.
  EXPECT_EQ(cost(CropConcat{}, maps({1, 100, 100, 4}, {1, 4, 4, 2})).bytes, 2 * 16 * 6 * 4);
}

}  // namespace
}  // namespace tessera
