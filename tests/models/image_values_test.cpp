// From a file's pixels to what a model reads: scales, ranges, colours, mirrored borders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/image/image.h"
#include "tests/support/image_files.h"

namespace tessera {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> normalised(const Image& image, const Preprocessing& preprocessing) {
  std::vector<float> out(static_cast<size_t>(image.height * image.width * preprocessing.channels),
                         std::numeric_limits<float>::quiet_NaN());
  normalise(image, preprocessing, out);
  return out;
}

TEST(Normalise, ScalesByThePixelType) {
  const auto unit = [](auto pixels) {
    return normalised({1, 2, 1, std::move(pixels)}, {.scale = Scale::kUnit});
  };
  EXPECT_THAT(unit(std::vector<uint8_t>{51, 255}), ElementsAre(51.0f / 255, 1));
  EXPECT_THAT(unit(std::vector<uint16_t>{51, 65535}), ElementsAre(51.0f / 65535, 1));
  EXPECT_THAT(unit(std::vector<uint32_t>{0, 4294967295u}), ElementsAre(0, 1));
  EXPECT_THAT(unit(std::vector<float>{0.25f, -3}), ElementsAre(0.25f, -3));
  EXPECT_THAT(normalised({1, 2, 1, std::vector<uint8_t>{51, 255}}, {.scale = Scale::kNone}),
              ElementsAre(51, 255));
}

TEST(Normalise, ConvertsColours) {
  const Image rgb{1, 2, 3, std::vector<uint8_t>{255, 0, 0, 10, 20, 30}};
  const std::vector<float> grey = normalised(rgb, {.channels = 1, .scale = Scale::kNone});
  // Three products and two sums below 256 in float: 5 roundings of at most 2^-17.
  EXPECT_NEAR(grey[0], 0.299 * 255, 5e-5);
  EXPECT_NEAR(grey[1], 2.99 + 11.74 + 3.42, 5e-5);
  EXPECT_THAT(
      normalised({1, 2, 1, std::vector<uint8_t>{7, 9}}, {.channels = 3, .scale = Scale::kNone}),
      ElementsAre(7, 7, 7, 9, 9, 9));
}

TEST(Normalise, StandardizesAndStretches) {
  const Image image{2, 2, 1, std::vector<uint16_t>{1000, 1004, 1000, 1004}};
  for (const float value : normalised(image, {.scale = Scale::kStandardize})) {
    EXPECT_NEAR(std::abs(value), 2 / (2 + 1e-6), 1e-6);
  }
  EXPECT_THAT(normalised(image, {.scale = Scale::kMinMax}), ElementsAre(0, 1, 0, 1));
  const Image flat{1, 2, 1, std::vector<uint8_t>{9, 9}};
  EXPECT_THAT(normalised(flat, {.scale = Scale::kStandardize}), ElementsAre(0, 0));
  EXPECT_THAT(normalised(flat, {.scale = Scale::kMinMax}), ElementsAre(0, 0));
}

TEST(Normalise, AppliesMeanAndStdPerChannelLast) {
  const Image image{1, 1, 3, std::vector<uint8_t>{255, 0, 51}};
  EXPECT_THAT(normalised(image, {3, Scale::kUnit, {0.5f, 0.25f, 0}, {0.5f, 1, 0.1f}}),
              ElementsAre(1, -0.25f, 51.0f / 255 / 0.1f));
}

TEST(Normalise, RefusesNanAndWrongSizes) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Image image{1, 2, 1, std::vector<float>{1, nan}};
  EXPECT_THAT(error_of([&] { normalised(image, {.scale = Scale::kUnit}); }),
              HasSubstr("has the value nan"));
  std::vector<float> small(1);
  EXPECT_THAT(error_of([&] { normalise(image, {}, small); }), HasSubstr("room for 1 floats"));
}

// The values of a camera of 12 bits in 16, and of a file of floats, on the way to 0 to 1.
TEST(Normalise, ByARangeInsteadOfTheType) {
  const Image image{1, 4, 1, std::vector<uint16_t>{0, 1023, 4095, 50000}};
  const auto by = [&](const char* range) {
    Preprocessing preprocessing;
    set_range(preprocessing, range);
    return normalised(image, preprocessing);
  };
  EXPECT_THAT(by("0,4095"), ElementsAre(0, 1023.0f / 4095, 1, 1));
  EXPECT_THAT(by("1023,4095"), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(by("auto"), ElementsAre(0, 1023.0f / 50000, 4095.0f / 50000, 1));
  EXPECT_THAT(by("-4095,4095"), ElementsAre(0.5f, (1023.0f + 4095) / 8190, 1, 1));
  // 4095 of 12 bits is 255 of 8: the same floats, whichever the file has.
  Preprocessing preprocessing;
  set_range(preprocessing, "0,4095");
  EXPECT_EQ(normalised({1, 2, 1, std::vector<uint16_t>{819, 4095}}, preprocessing),
            normalised({1, 2, 1, std::vector<uint8_t>{51, 255}}, {}));
}

TEST(Normalise, RefusesRangesThatAreNone) {
  for (const char* text : {"", "5", "5,", ",5", "5,5", "6,5", "0,nan", "0,inf", "0,1,2", "a,b",
                           "0x0,0x10", "Auto", "-3e38,3e38"}) {
    EXPECT_THAT(error_of([&] { parse_range(text); }), HasSubstr("LO,HI")) << text;
  }
  Preprocessing stretched{.scale = Scale::kMinMax};
  EXPECT_THAT(error_of([&] { set_range(stretched, "0,5"); }),
              AllOf(HasSubstr("--range"), HasSubstr("\"min_max\"")));
}

TEST(Normalise, NotesARangeUnlikeTheType) {
  const auto note = [](auto pixels, Preprocessing preprocessing = {}) {
    const auto width = static_cast<int64_t>(pixels.size());
    return range_note({1, width, 1, std::move(pixels)}, preprocessing);
  };
  using Words = std::vector<uint16_t>;
  EXPECT_THAT(note(Words{7, 4095}),
              AllOf(HasSubstr("16-bit"), HasSubstr("from 7 to 4095"), HasSubstr("divides by 65535"),
                    HasSubstr("--range 0,4095 ")));
  EXPECT_THAT(note(Words{7, 4096}), HasSubstr("--range 0,16383 "));
  EXPECT_THAT(note(Words{0, 200}), HasSubstr("--range 0,255 "));
  EXPECT_THAT(note(std::vector<uint32_t>{0, 255}),
              AllOf(HasSubstr("divides by 4294967295"), HasSubstr("--range 0,255 ")));
  EXPECT_THAT(note(std::vector<float>{0, 255}),
              AllOf(HasSubstr("expects in 0 to 1"), HasSubstr("--range 0,255 ")));
  EXPECT_THAT(note(std::vector<float>{-0.5f, 1.5f}), HasSubstr("--range -0.5,1.5 "));
  // Signed values, shifted up.
  EXPECT_THAT(note(Words{32805, 33004}), HasSubstr("--range 32805,33004 "));
  // Against the range that a model was trained with.
  const Preprocessing of_12_bits{.range = ValueRange{.low = 0, .high = 4095}};
  EXPECT_THAT(note(std::vector<uint8_t>{37, 236}, of_12_bits),
              AllOf(HasSubstr("8-bit images with values from 37 to 236"),
                    HasSubstr("4095 for white"), HasSubstr("--range auto")));
  EXPECT_THAT(note(Words{100, 60000, 61000}, of_12_bits), HasSubstr("from 100 to 61000"));
  EXPECT_THAT(note(Words{1, 2, 3}, {.range = ValueRange{.low = 100, .high = 200}}),
              HasSubstr("100 for black"));
  EXPECT_EQ(note(Words{0, 2000, 2500}, of_12_bits), "");
  EXPECT_EQ(note(Words{0, 10, 65535}, of_12_bits), "");  // one hot pixel
  EXPECT_EQ(note(Words{60000, 60000}, of_12_bits), "");
  EXPECT_EQ(note(Words{30000, 33000}), "");
  // Usual: filled ranges, dark pictures of 8 bits, one value, and models that do not divide.
  EXPECT_EQ(note(Words{0, 30000}), "");
  EXPECT_EQ(note(Words{9, 9}), "");
  EXPECT_EQ(note(std::vector<uint8_t>{0, 20}), "");
  EXPECT_EQ(note(std::vector<float>{0, 1}), "");
  EXPECT_EQ(note(Words{0, 4095}, {.scale = Scale::kMinMax}), "");
  EXPECT_EQ(note(Words{0, 4095}, {.range = ValueRange{.automatic = true}}), "");
}

TEST(PreprocessingJson, RoundTripsAndIsStrict) {
  const Preprocessing preprocessing{3, Scale::kMinMax, {0.5f, 0.25f, 0}, {0.5f, 1, 2}};
  const nlohmann::json json = to_json(preprocessing);
  EXPECT_EQ(to_json(preprocessing_from_json(json)), json);
  EXPECT_EQ(json["scale"], "min_max");
  EXPECT_EQ(preprocessing_from_json({{"channels", 1}}).scale, Scale::kUnit);

  const auto error = [](const char* text) {
    return error_of([&] { preprocessing_from_json(nlohmann::json::parse(text)); });
  };
  EXPECT_THAT(error(R"({"chanels": 1})"), HasSubstr("unknown key \"chanels\""));
  EXPECT_THAT(error(R"({"channels": 2})"), HasSubstr("\"channels\" is 2"));
  EXPECT_THAT(error(R"({"scale": "zscore"})"), HasSubstr("\"scale\" is \"zscore\""));
  EXPECT_THAT(error(R"({"channels": 3, "mean": [1]})"), HasSubstr("expected 3 finite numbers"));
  EXPECT_THAT(error(R"({"mean": ["a"]})"), HasSubstr("\"mean\" is [\"a\"]"));
  EXPECT_THAT(error(R"({"std": [0]})"), HasSubstr("above 0"));
  EXPECT_THAT(error(R"([1])"), HasSubstr("expected an object"));

  // A range is there only where it was set, so that older files keep their bytes.
  EXPECT_FALSE(json.contains("range"));
  for (const char* text : {R"({"channels": 1, "range": [0.0, 4095.0], "scale": "unit"})",
                           R"({"channels": 1, "range": "auto", "scale": "unit"})"}) {
    const auto whole = nlohmann::json::parse(text);
    EXPECT_EQ(to_json(preprocessing_from_json(whole)), whole);
  }
  EXPECT_THAT(error(R"({"range": [0]})"), HasSubstr("\"range\" is [0]"));
  EXPECT_THAT(error(R"({"range": [1, 1]})"), HasSubstr("the first one smaller"));
  EXPECT_THAT(error(R"({"range": "full"})"), HasSubstr("\"range\" is \"full\""));
  EXPECT_THAT(error(R"({"scale": "none", "range": "auto"})"), HasSubstr("the scale is \"none\""));
}

// ---- mirrored borders --------------------------------------------------------------------------

// Walks step by step and turns round at the ends.
int64_t naive_mirror(int64_t i, int64_t n) {
  int64_t at = 0;
  int64_t step = i < 0 ? -1 : 1;
  for (int64_t left = std::abs(i); left > 0; --left) {
    if (n == 1) return 0;
    if (at + step < 0 || at + step >= n) step = -step;
    at += step;
  }
  return at;
}

TEST(Mirror, AgreesWithAWalkForEveryIndexAndSize) {
  for (int64_t n = 1; n <= 9; ++n) {
    for (int64_t i = -40; i <= 40; ++i) EXPECT_EQ(mirror_index(i, n), naive_mirror(i, n));
  }
}

TEST(Mirror, CutsAnyWindow) {
  for (const auto& [height, width, channels] :
       {std::array<int64_t, 3>{5, 7, 2}, {1, 1, 3}, {2, 1, 1}, {1, 6, 1}}) {
    std::vector<float> image(static_cast<size_t>(height * width * channels));
    std::iota(image.begin(), image.end(), 1.0f);
    for (const ImageWindow& window :
         {ImageWindow{0, 0, height, width}, ImageWindow{-3, -20, 30, 4}, ImageWindow{1, 2, 1, 9},
          ImageWindow{-9, -9, -4, -2}, ImageWindow{20, 30, 22, 41}, ImageWindow{0, 1, 1, 3}}) {
      const int64_t rows = window.y1 - window.y0;
      const int64_t columns = window.x1 - window.x0;
      std::vector<float> out(static_cast<size_t>(rows * columns * channels), -1);
      mirror_pad(image, height, width, channels, window, out);
      size_t i = 0;
      for (int64_t y = window.y0; y < window.y1; ++y) {
        for (int64_t x = window.x0; x < window.x1; ++x) {
          for (int64_t c = 0; c < channels; ++c, ++i) {
            const int64_t at =
                (naive_mirror(y, height) * width + naive_mirror(x, width)) * channels + c;
            ASSERT_EQ(out[i], image[static_cast<size_t>(at)]) << y << ' ' << x << ' ' << c;
          }
        }
      }
    }
  }
  std::vector<float> image(4);
  std::vector<float> out(3);
  EXPECT_THAT(error_of([&] {
                mirror_pad(image, 2, 2, 1, {0, 0, 2, 2}, out);
              }),
              HasSubstr("room for 3 floats, expected 2 x 2 x 1"));
}

}  // namespace
}  // namespace tessera
