#include "kernels/ops/resize/resize.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"

namespace tessera {
namespace {

using test::Tensor;
using testing::ElementsAre;

// One row of four pixels, made into `columns`.
std::vector<float> row(Resize op, int columns) {
  op.sizes = {1, columns};
  return test::run_cpu(op, {Tensor::of({1, 1, 4, 1}, {1, 2, 3, 4})}, {}, 1)[0].values();
}

// The examples of ONNX's Resize.
TEST(Resize, RoundsHalvesAsAsked) {
  using Nearest = Resize::Nearest;
  Resize op{.coordinates = Resize::Coordinates::kHalfPixel};
  // Places 0.5, 2.5.
  EXPECT_THAT(row(op, 2), ElementsAre(1, 3));
  op.nearest = Nearest::kRoundPreferCeil;
  EXPECT_THAT(row(op, 2), ElementsAre(2, 4));
  op.nearest = Nearest::kFloor;
  EXPECT_THAT(row(op, 2), ElementsAre(1, 3));
  op.nearest = Nearest::kCeil;
  EXPECT_THAT(row(op, 2), ElementsAre(2, 4));
}

TEST(Resize, PlacesOutputsAsAsked) {
  using Coordinates = Resize::Coordinates;
  Resize op{.mode = Resize::Mode::kLinear};
  EXPECT_THAT(row(op, 1), ElementsAre(2.5f));
  op.coordinates = Coordinates::kPytorchHalfPixel;
  EXPECT_THAT(row(op, 1), ElementsAre(1));
  EXPECT_THAT(row(op, 2), ElementsAre(1.5f, 3.5f));
  op.coordinates = Coordinates::kAlignCorners;
  EXPECT_THAT(row(op, 2), ElementsAre(1, 4));
  op.coordinates = Coordinates::kAsymmetric;
  EXPECT_THAT(row(op, 2), ElementsAre(1, 3));
  EXPECT_THAT(row(op, 8), ElementsAre(1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4));
}

// Weights of at most 4 x 4 products; in bf16 nearest copies and the others round once.
TEST(Resize, MatchesTheReferenceWithEveryModeAndType) {
  for (const auto mode : {Resize::Mode::kNearest, Resize::Mode::kLinear, Resize::Mode::kCubic}) {
    for (const std::int64_t c : {1, 3, 17}) {
      const Resize op{.mode = mode, .scale_h = 1.7, .scale_w = 0.6};
      const Tensor x = test::random({2, 5, 9, c}, 1);
      test::check_cpu(op, {x}, {}, test::sum_bound(16));
      test::check_cpu(op, {x.rounded_to(DType::kBF16)}, {}, {0, 0x1p-8});
    }
  }
}

// A decoder's map in the size of the skip that it joins.
TEST(Resize, TakesTheSizeOfASecondImage) {
  const Tensor x = Tensor::of({1, 1, 4, 1}, {1, 2, 3, 4});
  const auto fit = [&](Resize op, int columns) {
    op.coordinates = Resize::Coordinates::kAsymmetric;
    op.nearest = Resize::Nearest::kFloor;
    const std::vector<Tensor> inputs{x, test::random({1, 1, columns, 5}, 1)};
    test::check_cpu(op, inputs, {}, {});
    return test::run_cpu(op, inputs, {}, 1)[0].values();
  };
  EXPECT_THAT(fit({}, 7), ElementsAre(1, 1, 2, 2, 3, 3, 4));
  EXPECT_THAT(fit({.scale_w = 2, .stretch = false}, 7), ElementsAre(1, 1, 2, 2, 3, 3, 4));
  EXPECT_THAT(fit({.stretch = false}, 5), ElementsAre(1, 2, 3, 4, 4));
  EXPECT_THAT(fit({}, 5), ElementsAre(1, 1, 2, 3, 4));
}

TEST(Resize, NamesWhatItCannotTake) {
  EXPECT_THAT(
      [] {
        infer(Resize{.scale_h = 0.1}, {{{DType::kF32, {1, 5, 5, 1}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("5 pixels times 0.1")));
}

}  // namespace
}  // namespace tessera
