// Masks painted over their images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "models/image/mask.h"
#include "tests/support/image_files.h"

namespace tessera {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Overlay, PaintsForegroundInsideLightlyAndBoundariesStrongly) {
  const Image image{1, 5, 1, std::vector<uint8_t>(5, 100)};
  const Image overlay =
      make_overlay(image, std::vector<uint8_t>{0, 1, 1, 1, 1},
                   {.colours = {{0, 0, 0}, {200, 0, 100}}, .alpha = 0.5f, .boundary_alpha = 1.0f});
  EXPECT_THAT(std::get<std::vector<uint8_t>>(overlay.pixels),
              ElementsAre(100, 100, 100, 200, 0, 100, 150, 50, 100, 150, 50, 100, 150, 50, 100));
  EXPECT_THAT(error_of([&] {
                make_overlay(image, std::vector<uint8_t>(5, 2), {{{1, 2, 3}}});
              }),
              HasSubstr("class id 2, expected 0 to 0"));
}

TEST(Overlay, StretchesWhatIsNot8Bit) {
  const Image image{1, 3, 1, std::vector<uint16_t>{300, 310, 320}};
  const Image overlay = make_overlay(image, std::vector<uint8_t>(3, 0), {{{1, 2, 3}}});
  EXPECT_THAT(std::get<std::vector<uint8_t>>(overlay.pixels),
              ElementsAre(0, 0, 0, 128, 128, 128, 255, 255, 255));
}

TEST(Overlay, ShowsColourAsItIsAndRefusesNaN) {
  const Image image{1, 2, 3, std::vector<uint8_t>{1, 20, 255, 0, 128, 7}};
  const Image overlay = make_overlay(image, std::vector<uint8_t>(2, 0), {{{1, 2, 3}}});
  EXPECT_THAT(std::get<std::vector<uint8_t>>(overlay.pixels), ElementsAre(1, 20, 255, 0, 128, 7));
  const Image broken{1, 2, 1, std::vector<float>{0.5f, NAN}};
  EXPECT_THAT(error_of([&] {
                make_overlay(broken, std::vector<uint8_t>(2, 0), {{{1, 2, 3}}});
              }),
              HasSubstr("not finite"));
}

TEST(Overlay, DefaultColoursDiffer) {
  const std::vector<Rgb> colours = default_colours(24);
  ASSERT_EQ(colours.size(), 24u);
  for (size_t a = 0; a < colours.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      int distance = 0;
      for (size_t c = 0; c < 3; ++c) distance += std::abs(colours[a][c] - colours[b][c]);
      EXPECT_GE(distance, 80) << a << " and " << b;
    }
  }
}

}  // namespace
}  // namespace tessera
