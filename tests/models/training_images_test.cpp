// Labelled images for training: the check, weights, tiles and their deformations.
#include <chrono>
#include <cmath>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>
#include <set>
#include <thread>

#include "models/image/tiff.h"
#include "models/training/augmentation.h"
#include "models/training/contact_sheet.h"
#include "tests/support/labelled_images.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- the check ---------------------------------------------------------------------------------

TEST_F(TrainingImages, TheCheckReportsEveryProblemAtOnce) {
  for (int i = 0; i < 12; ++i) write_pair(fmt::format("{:02}", i), 20, 30);
  write("masks/03.png", {20, 31, 1, Bytes(620)});
  write("masks/05.png", {20, 30, 1, Bytes(600, 7)});
  write_text("images/08.png", "no image at all");
  {
    std::ifstream whole(folder_ / "images/09.png", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(whole), {}};
    write_text("images/09.png", bytes.substr(0, bytes.size() / 2));
  }
  DataReport found;
  const ImagePairs all = pairs(found);
  std::vector<std::vector<std::string>> texts;
  for (const int threads : {1, 3}) {
    DataReport report;
    std::size_t done = 0;
    const auto statistics = check_images(all, MaskRules::parse("values:0,255,99", 3), threads,
                                         report, [&](std::size_t n) {
                                           done = n;
                                           return true;
                                         });
    EXPECT_EQ(done, 12U);
    texts.push_back(texts_of(report));
    EXPECT_EQ(statistics[0].height, 20);
    EXPECT_EQ(std::reduce(statistics[0].class_pixels.begin(), statistics[0].class_pixels.end()),
              600);
    EXPECT_THAT(statistics[3].class_pixels, IsEmpty());
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_THAT(texts[0], ElementsAre(AllOf(HasSubstr("masks/03.png"), HasSubstr("20 x 31")),
                                    AllOf(HasSubstr("masks/05.png"), HasSubstr("7 (600 pixels)")),
                                    HasSubstr("images/08.png"), HasSubstr("images/09.png"),
                                    HasSubstr("no pixel of any mask is of class 2")));
}

TEST_F(TrainingImages, OtherPixelsHaveAnotherDigest) {
  for (const char* name : {"a", "b"}) write_pair(name, 8, 9);
  const auto digest = [&] {
    DataReport report;
    return digest_of_pixels(check_images(pairs(report), MaskRules::parse("binary", 2), 1, report));
  };
  const std::string before = digest();
  EXPECT_EQ(digest(), before);
  write_pair("b", 8, 9, 1);
  EXPECT_NE(digest(), before);
  write_pair("b", 8, 9);
  EXPECT_EQ(digest(), before);
  Bytes mask(72, 0);
  mask[5] = 255;
  write("masks/a.png", {8, 9, 1, mask});
  EXPECT_NE(digest(), before);
}

// ---- weights -----------------------------------------------------------------------------------

TEST_F(TrainingImages, WeightsJoinClassesAndBorders) {
  write("images/a.png", {1, 6, 1, Bytes{9, 9, 9, 9, 9, 9}});
  write("masks/a.png", {1, 6, 1, Bytes{255, 0, 0, 255, 0, 7}});
  DataReport report;
  const ImagePair pair = pairs(report).at(0);
  const MaskRules rules = MaskRules::parse("binary,ignore=7", 2);
  const auto border = static_cast<float>(10 * std::exp(-9.0 / 50));
  const LabelledImage image = load_labelled_image(
      pair, rules, {}, {.class_weights = {0.5f, 2.0f}, .border = BorderWeight{}});
  EXPECT_EQ(image.classes, (Bytes{1, 0, 0, 1, 0, 0}));
  EXPECT_EQ(image.weights[0], 2.0f);
  EXPECT_FLOAT_EQ(image.weights[1], 0.5f + border);
  EXPECT_EQ(image.weights[5], 0.0f);
  EXPECT_EQ(load_labelled_image(pair, rules, {}, {}).weights,
            (std::vector<float>{1, 1, 1, 1, 1, 0}));
  EXPECT_THAT(error_of([&] { load_labelled_image(pair, MaskRules::parse("ids", 2), {}, {}); }),
              AllOf(HasSubstr("a.png"), HasSubstr("255 (2 pixels)")));
}

TEST_F(TrainingImages, TheCacheForgetsWhatWasUsedLongestAgo) {
  for (const char* name : {"a", "b", "c"}) write_pair(name, 8, 8);
  DataReport report;
  constexpr std::size_t kImage = 64 * 9;  // bytes: two floats and a class for each pixel
  LabelledImages some(pairs(report), MaskRules::parse("binary", 2), {}, {}, 2 * kImage);
  const std::weak_ptr<const LabelledImage> a = some.load(0), b = some.load(1);
  EXPECT_FALSE(a.expired());
  EXPECT_EQ(some.load(0), a.lock());
  some.load(2);
  EXPECT_FALSE(a.expired());
  EXPECT_TRUE(b.expired());
}

// ---- tiles -------------------------------------------------------------------------------------

constexpr TileShape kValid{20, 24, 8, 12}, kSame{16, 16, 16, 16};

TEST_F(TrainingImages, WithoutAugmentationATileIsAPartOfTheImage) {
  for (const char* name : {"a", "b"}) write_pair(name, 26, 31);
  write_pair("small", 5, 9);
  LabelledImages set = images();
  for (const TileShape& shape : {kValid, kSame}) {
    const TileSampler sampler(set, {0, 1, 2}, shape, Augmentation::none(), 7);
    std::set<std::pair<std::int64_t, std::int64_t>> seen;
    for (std::uint64_t n = 0; n < 60; ++n) {
      const TrainingTile tile = sampler.tile(n);
      const auto image = set.load(sampler.image_of(n));
      bool found = false;
      const auto last = [](std::int64_t size, std::int64_t output) {
        return std::max<std::int64_t>(size - output, 0);
      };
      const auto first = [](std::int64_t size, std::int64_t output) {
        return std::min<std::int64_t>((size - output) / 2, 0);
      };
      for (std::int64_t y = first(image->height, shape.output_height);
           y <= last(image->height, shape.output_height); ++y) {
        for (std::int64_t x = first(image->width, shape.output_width);
             x <= last(image->width, shape.output_width); ++x) {
          const TrainingTile plain =
              plain_tile(*image, shape, {y, x, std::min<std::int64_t>(y, 0), 0});
          if (plain.image != tile.image) continue;
          found = true;
          EXPECT_EQ(plain.classes, tile.classes);
          seen.emplace(y, x);
        }
      }
      EXPECT_TRUE(found) << n;
    }
    EXPECT_GT(seen.size(), 20U);
  }
}

TEST_F(TrainingImages, ImagesComeEquallyOften) {
  for (const char* name : {"a", "b", "c", "d", "e"}) write_pair(name, 16, 16);
  LabelledImages set = images();
  const TileSampler sampler(set, {0, 2, 3, 4}, kSame, {}, 3);
  bool other_order = false;
  for (std::uint64_t epoch = 0; epoch < 8; ++epoch) {
    std::set<std::size_t> seen;
    for (std::uint64_t i = 0; i < 4; ++i) {
      seen.insert(sampler.image_of(4 * epoch + i));
      other_order |= sampler.image_of(4 * epoch + i) != sampler.image_of(i);
    }
    EXPECT_THAT(seen, ElementsAre(0, 2, 3, 4));
  }
  EXPECT_TRUE(other_order);
}

TEST_F(TrainingImages, TilesDoNotDependOnThreadsOrOrder) {
  for (const char* name : {"a", "b", "c"}) write_pair(name, 40, 30);
  constexpr std::size_t kTiles = 24;
  LabelledImages set = images({.border = BorderWeight{}});
  const TileSampler sampler(set, {0, 1, 2}, kValid, {}, 11);
  std::vector<TrainingTile> forward(kTiles), parallel(kTiles);
  for (std::size_t n = 0; n < kTiles; ++n) forward[n] = sampler.tile(n);
  LabelledImages other_set = images({.border = BorderWeight{}});
  const TileSampler other(other_set, {0, 1, 2}, kValid, {}, 11);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t n = kTiles; n-- > 0;) {
          if (n % 3 == t) parallel[n] = other.tile(n);
        }
      });
    }
  }
  for (std::size_t n = 0; n < kTiles; ++n) {
    EXPECT_EQ(forward[n].image, parallel[n].image) << n;
    EXPECT_EQ(forward[n].classes, parallel[n].classes) << n;
    EXPECT_EQ(forward[n].weights, parallel[n].weights) << n;
  }
  EXPECT_NE(forward[0].image, TileSampler(set, {0, 1, 2}, kValid, {}, 12).tile(0).image);
}

TEST_F(TrainingImages, FlipsAndQuarterTurnsMovePixelsAlone) {
  write_pair("a", 16, 16);
  LabelledImages set = images();
  const auto image = set.load(0);
  Augmentation moves = Augmentation::none();
  moves.quarter_turns = moves.flip_horizontal = moves.flip_vertical = true;
  const TileSampler sampler(set, {0}, kSame, moves, 5);
  std::set<std::vector<float>> seen;
  for (std::uint64_t n = 0; n < 100; ++n) {
    const TrainingTile tile = sampler.tile(n);
    seen.insert(tile.image);
    // Each pixel keeps its class wherever it goes.
    std::vector<std::pair<float, std::uint8_t>> before, after;
    for (std::size_t i = 0; i < tile.image.size(); ++i) {
      before.emplace_back(image->pixels[i], image->classes[i]);
      after.emplace_back(tile.image[i], tile.classes[i]);
    }
    std::ranges::sort(before);
    std::ranges::sort(after);
    EXPECT_EQ(before, after);
  }
  EXPECT_EQ(seen.size(), 8U);  // the symmetries of the square
}

TEST(ElasticFieldTest, GoesThroughItsPointsAndKeepsLines) {
  std::vector<double> points{3, -1, 4, 1, -5, 9, -2, 6, 5};
  const ElasticField field(points, 3, 21, 31);
  std::vector<double> row;
  for (std::int64_t i = 0; i < 3; ++i) {
    field.row(10 * i, row);
    ASSERT_EQ(row.size(), 31U);
    for (std::size_t j = 0; j < 3; ++j)
      EXPECT_NEAR(row[15 * j], points[static_cast<std::size_t>(3 * i) + j], 1e-12);
  }
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j)
      points[3 * i + j] = 2 + 3 * static_cast<double>(i) - static_cast<double>(j);
  }
  const ElasticField plane(points, 3, 21, 31);
  plane.row(7, row);
  for (std::size_t x = 0; x < row.size(); ++x)
    EXPECT_NEAR(row[x], 2 + 3 * 0.7 - static_cast<double>(x) / 15, 1e-12);
  EXPECT_THROW(ElasticField({1}, 1, 5, 5), Error);
  EXPECT_THROW(ElasticField({1, 2, 3}, 2, 5, 5), Error);
}

// What stays on disk gives the tiles of what lies in memory: pixels, classes and weights.
TEST_F(TrainingImages, TilesOfSlidesAreThoseOfImages) {
  constexpr std::int64_t kHeight = 700, kWidth = 640;
  Random random(4);
  std::vector<std::uint16_t> pixels, ids;
  for (std::int64_t i = 0; i < kHeight * kWidth; ++i) {
    const std::int64_t y = i / kWidth, x = i % kWidth;
    pixels.push_back(static_cast<std::uint16_t>(3000 + 7 * x + random.below(500)));
    // Blocks of 30 x 40, some of which touch; and pixels that nobody knows.
    const bool inside = y % 31 < 30 && x % 50 < 40 + y / 31 % 3 * 5;
    ids.push_back(static_cast<std::uint16_t>(random.below(40) == 0 ? 999
                                             : inside              ? 1 + y / 31 * 20 + x / 50
                                                                   : 0));
  }
  // The same as classes, whose objects have no ids. A column joins many of them, so that pieces
  // that are apart in a part are one object in the whole.
  std::vector<std::uint16_t> classes = ids;
  for (std::int64_t i = 0; i < kHeight * kWidth; ++i) {
    std::uint16_t& id = classes[static_cast<std::size_t>(i)];
    if (id != 999) id = id != 0 || (i % kWidth < 3 && i / kWidth < 400) ? 1 : 0;
  }
  const Image image{kHeight, kWidth, 1, pixels};
  for (const auto& [text, values] :
       {std::pair{"objects,ignore=999", ids}, {"ids,ignore=999", classes}}) {
    SCOPED_TRACE(text);
    const Image mask{kHeight, kWidth, 1, values};
    fs::remove_all(folder_);
    write("small/images/a.png", image);
    write("small/masks/a.png", mask);
    fs::create_directories(folder_ / "large/images");
    fs::create_directories(folder_ / "large/masks");
    for (const auto& [name, whole] : {std::pair{"images", &image}, {"masks", &mask}}) {
      TiledTiffWriter tiles(folder_ / "large" / name / "a.tif", kHeight, kWidth, whole->pixels);
      tiles.write(0, 0, *whole);
      tiles.commit();
    }
    const MaskRules rules = MaskRules::parse(text, 2);
    for (const Scale scale : {Scale::kUnit, Scale::kStandardize, Scale::kMinMax}) {
      const Preprocessing preprocessing{.scale = scale};
      const WeightRules weights{.class_weights = {0.5f, 2.0f}, .border = BorderWeight{}};
      const auto set = [&](const char* folder, std::size_t cache) {
        DataReport report;
        ImagePairs found =
            find_pairs(folder_ / folder / "images", folder_ / folder / "masks", report);
        report.require_none();
        return LabelledImages(found, rules, preprocessing, weights, cache);
      };
      LabelledImages small = set("small", std::size_t{1} << 30), large = set("large", 1000);
      ASSERT_EQ(small.slide(0), nullptr);
      ASSERT_NE(large.slide(0), nullptr);
      for (const TileShape& shape : {kValid, TileShape{720, 80, 700, 64}}) {
        const TileSampler expected(small, {0}, shape, {}, 9), sampler(large, {0}, shape, {}, 9);
        for (std::uint64_t n = 0; n < 4; ++n) {
          const TrainingTile a = expected.tile(n), b = sampler.tile(n);
          EXPECT_EQ(a.image, b.image);
          EXPECT_EQ(a.classes, b.classes);
          EXPECT_EQ(a.weights, b.weights);
        }
        for (const TilePlace& place : {TilePlace{0, 0}, {kHeight - 8, kWidth - 12}, {-3, 300}}) {
          const TrainingTile a = plain_tile(*small.load(0), shape, place);
          const TrainingTile b = plain_tile(
              large.slide(0)->part(part_of_tile(kHeight, kWidth, shape, place)), shape, place);
          EXPECT_EQ(a.image, b.image);
          EXPECT_EQ(a.classes, b.classes);
          EXPECT_EQ(a.weights, b.weights);
        }
      }
      DataReport report;
      EXPECT_EQ(digest_of_pixels(check_images({small.pair(0)}, rules, 1, report)),
                digest_of_pixels(check_images({large.pair(0)}, rules, 1, report)));
    }
  }
}

// The value of each pixel of the image is its own column (or row): a tile shows where it came from.
TEST_F(TrainingImages, DeformationsMoveByTheAmountsThatWereAsked) {
  constexpr std::int64_t kSide = 200;
  Bytes columns;
  for (std::int64_t i = 0; i < kSide * kSide; ++i)
    columns.push_back(static_cast<std::uint8_t>(i % kSide));
  write("images/a.png", {kSide, kSide, 1, columns});
  write("masks/a.png", {kSide, kSide, 1, Bytes(columns.size(), 0)});
  DataReport report;
  LabelledImages set(pairs(report), MaskRules::parse("binary", 2), {.scale = Scale::kNone}, {},
                     1 << 20);
  const TileShape shape{81, 81, 41, 41};
  const auto spread = [&](const Augmentation& options, auto measure) {
    const TileSampler sampler(set, {0}, shape, options, 1);
    std::vector<double> values;
    for (std::uint64_t n = 0; n < 200; ++n) values.push_back(measure(sampler.tile(n).image));
    return values;
  };
  const auto at = [](const std::vector<float>& image, int y, int x) {
    return static_cast<double>(image[static_cast<std::size_t>((40 + y) * 81 + 40 + x)]);
  };
  const auto pixel_width = [&](const std::vector<float>& image) {
    return (at(image, 0, 5) - at(image, 0, -5)) / 10;
  };
  Augmentation options = Augmentation::none();
  options.scale = 0.25;
  const auto widths = spread(options, pixel_width);
  EXPECT_GE(*std::ranges::min_element(widths), 0.8 - 1e-3);
  EXPECT_LE(*std::ranges::max_element(widths), 1.25 + 1e-3);
  EXPECT_GT(*std::ranges::max_element(widths), 1.2);

  options = Augmentation::none();
  options.rotation = 30;
  const auto slopes = spread(options, [&](const std::vector<float>& image) {
    return std::atan2(at(image, 5, 0) - at(image, -5, 0), at(image, 0, 5) - at(image, 0, -5)) *
           180 / std::numbers::pi;
  });
  EXPECT_NEAR(*std::ranges::max_element(slopes), 30, 1);
  EXPECT_NEAR(*std::ranges::min_element(slopes), -30, 1);

  // At the middle of the grid the displacement is that of one point: normal, of deviation 3. The
  // place of the tile is a whole number; its part after the point is the displacement's.
  options = Augmentation::none();
  options.elastic_sigma = 3;
  const TileSampler bent(set, {0}, shape, options, 1),
      straight(set, {0}, shape, Augmentation::none(), 1);
  double sum = 0, squares = 0;
  for (std::uint64_t n = 0; n < 400; ++n) {
    const double moved = at(bent.tile(n).image, 0, 0) - at(straight.tile(n).image, 0, 0);
    sum += moved;
    squares += moved * moved;
  }
  EXPECT_NEAR(sum / 400, 0, 4 * 3 / std::sqrt(400.0));
  EXPECT_NEAR(std::sqrt(squares / 400), 3, 4 * 3 / std::sqrt(800.0));
}

TEST_F(TrainingImages, GreyValuesChangeAndClassesStay) {
  write_pair("a", 40, 40);
  LabelledImages set = images();
  const auto image = set.load(0);
  const TileShape shape{40, 40, 40, 40};
  const auto tile = [&](const Augmentation& options, std::uint64_t n) {
    return TileSampler(set, {0}, shape, options, 2).tile(n);
  };
  const float range = image->high - image->low;
  for (std::uint64_t n = 0; n < 10; ++n) {
    Augmentation options = Augmentation::none();
    options.brightness = 0.2;
    const TrainingTile brighter = tile(options, n);
    const float added = brighter.image[0] - image->pixels[0];
    EXPECT_LE(std::abs(added), 0.2f * range + 1e-6f);
    for (std::size_t i = 0; i < brighter.image.size(); ++i)
      ASSERT_NEAR(brighter.image[i] - image->pixels[i], added, 1e-5);
    EXPECT_EQ(brighter.classes, image->classes);

    options = Augmentation::none();
    options.gamma = 0.5;
    const TrainingTile curved = tile(options, n);
    const auto [low, high] = std::ranges::minmax_element(curved.image);
    EXPECT_NEAR(*low, image->low, 1e-6);
    EXPECT_NEAR(*high, image->high, 1e-6);

    options = Augmentation::none();
    options.noise = 0.05;
    const TrainingTile noisy = tile(options, n);
    double squares = 0;
    for (std::size_t i = 0; i < noisy.image.size(); ++i)
      squares += std::pow(noisy.image[i] - image->pixels[i], 2);
    EXPECT_NEAR(std::sqrt(squares / 1600), 0.05 * range, 4 * 0.05 * range / std::sqrt(3200.0));

    options = Augmentation::none();
    options.contrast = 0.4;
    const TrainingTile flat = tile(options, n);
    const auto mean = [](const std::vector<float>& values) {
      return std::reduce(values.begin(), values.end(), 0.0) / 1600;
    };
    EXPECT_NEAR(mean(flat.image), mean(image->pixels), 1e-5);
  }
}

// Switching one deformation off leaves all that others draw as it was.
TEST_F(TrainingImages, SwitchesAreIndependent) {
  write_pair("a", 60, 60);
  LabelledImages set = images();
  Augmentation options;
  options.noise = 0;
  Augmentation without = options;
  without.brightness = 0;
  const TrainingTile one = TileSampler(set, {0}, kValid, options, 2).tile(3);
  const TrainingTile other = TileSampler(set, {0}, kValid, without, 2).tile(3);
  EXPECT_EQ(one.classes, other.classes);
  const float added = one.image[0] - other.image[0];
  for (std::size_t i = 0; i < one.image.size(); ++i)
    ASSERT_NEAR(one.image[i] - other.image[i], added, 1e-5);
}

TEST_F(TrainingImages, PlacesCoverEveryPixelOnce) {
  for (const auto& [height, width] : {std::pair{5, 9}, {8, 12}, {9, 13}, {26, 31}}) {
    write_pair("a", height, width);
    LabelledImages set = images();
    const auto image = set.load(0);
    for (const TileShape& shape : {kValid, kSame}) {
      std::vector<int> times(image->classes.size());
      for (const TilePlace& place : covering_places(height, width, shape)) {
        const TrainingTile tile = plain_tile(*image, shape, place);
        for (std::int64_t y = 0; y < shape.output_height; ++y) {
          for (std::int64_t x = 0; x < shape.output_width; ++x) {
            const auto i = static_cast<std::size_t>(y * shape.output_width + x);
            if (tile.weights[i] == 0) continue;
            const auto pixel = static_cast<std::size_t>((place.y + y) * width + place.x + x);
            ++times.at(pixel);
            EXPECT_EQ(tile.classes[i], image->classes[pixel]);
          }
        }
      }
      EXPECT_EQ(times, std::vector<int>(times.size(), 1)) << height << " x " << width;
    }
  }
}

TEST_F(TrainingImages, TilesRefuseWhatMakesNoSense) {
  write_pair("a", 16, 16);
  LabelledImages set = images();
  const auto error = [&](std::vector<std::size_t> which, TileShape shape, Augmentation options) {
    return error_of([&] { TileSampler(set, std::move(which), shape, options, 0); });
  };
  EXPECT_THAT(error({}, kSame, {}), HasSubstr("no images"));
  EXPECT_THAT(error({0}, {8, 8, 9, 9}, {}), HasSubstr("in the middle"));
  EXPECT_THAT(error({0}, {8, 8, 5, 5}, {}), HasSubstr("in the middle"));
  EXPECT_THAT(error({0}, kSame, {.rotation = 200}), HasSubstr("rotation: expected 0 to 180"));
  EXPECT_THAT(error({0}, kSame, {.elastic_grid = 1}), HasSubstr("elastic_grid"));
}

TEST(AugmentationTest, TravelsAsJson) {
  Augmentation options;
  options.shift = 3;
  options.flip_vertical = false;
  EXPECT_EQ(augmentation_from_json(to_json(options)), options);
  EXPECT_EQ(augmentation_from_json(nlohmann::json::object()), Augmentation());
  EXPECT_THAT(error_of([] { augmentation_from_json({{"rotate", 3}}); }), HasSubstr("rotate"));
  EXPECT_THAT(error_of([] { augmentation_from_json({{"noise", -1}}); }), HasSubstr("noise"));
}

TEST_F(TrainingImages, ContactSheetsShowTilesMasksAndWeights) {
  write_pair("a", 40, 40);
  const std::vector<Rgb> colours = default_colours(2);
  for (const bool weighted : {false, true}) {
    LabelledImages set =
        images(weighted ? WeightRules{.border = BorderWeight{.w0 = 1}} : WeightRules{});
    const TileSampler sampler(set, {0}, kValid, {}, 1);
    std::vector<TrainingTile> tiles{sampler.tile(0), sampler.tile(1), sampler.tile(2)};
    if (weighted) tiles[0].weights[0] += 1;
    const Image sheet = contact_sheet(tiles, kValid, 1, colours, 2);
    EXPECT_EQ(sheet.height, 2 * (20 + 8));
    EXPECT_EQ(sheet.width, 2 * (24 + 8 + (weighted ? 2 : 1) * (12 + 4)));
    EXPECT_EQ(sheet.channels, 3);
    // The frame around the output of the first tile.
    const auto& bytes = std::get<Bytes>(sheet.pixels);
    const auto corner = static_cast<std::size_t>(((4 + 6) * sheet.width + 4 + 6) * 3);
    EXPECT_EQ(bytes[corner], 255);
    EXPECT_EQ(bytes[corner + 2], 0);
    EXPECT_THROW(contact_sheet(tiles, kSame, 1, colours, 2), Error);
  }
  EXPECT_THROW(contact_sheet({}, kSame, 1, colours, 2), Error);
  const std::vector<float> ramp{0, 1, 2, 3};
  EXPECT_EQ(std::get<Bytes>(weight_picture(ramp, 1, 4, 3).pixels),
            (Bytes{0, 0, 0, 255, 0, 0, 255, 255, 0, 255, 255, 255}));
}

}  // namespace
}  // namespace tessera
