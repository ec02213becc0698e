// Images that do not fit into memory: rows as floats, bands of rows, and windows by themselves,
// each against the whole, to the byte.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <random>

#include "models/image/image_rows.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/sanitizers.h"

namespace tessera {
namespace {

using test::error_of;
using testing::HasSubstr;

std::vector<std::uint8_t> texture(std::int64_t height, std::int64_t width) {
  std::mt19937 random(3);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(random() % 64 + i / 37 % 96 + i / 4001 % 90);
  return pixels;
}

std::vector<std::uint8_t> cut_out(const std::vector<std::uint8_t>& image, std::int64_t image_width,
                                  std::int64_t y, std::int64_t x, std::int64_t height,
                                  std::int64_t width) {
  std::vector<std::uint8_t> part;
  for (std::int64_t row = y; row < y + height; ++row) {
    const auto from = image.begin() + row * image_width + x;
    part.insert(part.end(), from, from + width);
  }
  return part;
}

Session open(SessionOptions options = {}) {
  options.device = "cpu";
  options.threads = 2;
  options.probabilities = true;
  return Session::open((test::source_dir() / "models" / "demo" / "unet_isbi.safetensors").string(),
                       options);
}

// The rectangle of `whole` that `window` keeps.
template <class T>
std::vector<T> kept(const std::vector<T>& whole, const SegmentationWindow& window,
                    std::int64_t channels) {
  std::vector<T> part;
  for (std::int64_t y = window.y; y < window.y + window.height; ++y) {
    const auto from = whole.begin() + (y * window.image_width + window.x) * channels;
    part.insert(part.end(), from, from + window.width * channels);
  }
  return part;
}

TEST(RowNormaliser, RowsAreThoseOfTheWhole) {
  const std::vector<std::uint8_t> bytes = texture(11, 7 * 3);
  const Image image{11, 7, 3, std::vector<std::uint16_t>(bytes.begin(), bytes.end())};
  for (const std::int64_t channels : {1, 3}) {
    for (const Scale scale : {Scale::kNone, Scale::kUnit, Scale::kStandardize, Scale::kMinMax}) {
      Preprocessing preprocessing{.channels = channels, .scale = scale};
      preprocessing.mean.assign(static_cast<std::size_t>(channels), 0.25f);
      std::vector<float> whole(static_cast<std::size_t>(11 * 7 * channels)), rows;
      normalise(image, preprocessing, whole);
      const RowNormaliser normaliser(image, preprocessing);
      for (const auto& [begin, end] : {std::pair{0, 1}, {1, 6}, {6, 11}}) {
        std::vector<float> some(static_cast<std::size_t>((end - begin) * 7 * channels));
        normaliser.rows(begin, end, some);
        rows.insert(rows.end(), some.begin(), some.end());
      }
      EXPECT_EQ(rows, whole);
    }
  }
}

TEST(LargeImages, InBandsEqualTheWholeToTheByte) {
#if defined(TESSERA_THREAD_SANITIZER) || defined(TESSERA_ADDRESS_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory counts as the process's, and grows";
#endif
  constexpr std::int64_t kHeight = 523, kWidth = 910;
  const auto pixels = texture(kHeight, kWidth);
  const ImageView image{pixels.data(), kHeight, kWidth};
  SegmentationPlan whole;
  Segmentation expected;
  {
    Session free = open({.winograd = false});
    whole = free.plan(kHeight, kWidth);
    EXPECT_FALSE(whole.bands);
    expected = free.segment(image);
  }
  bool bands = false, strips = false;
  for (int part = 11; part > 0 && !strips; --part) {
    SessionOptions options{.winograd = false};
    options.max_memory =
        whole.peak + whole.arena / 4 - (12 - static_cast<unsigned>(part)) * whole.arena / 10;
    Session tight = open(options);
    SegmentationPlan plan;
    try {
      plan = tight.plan(kHeight, kWidth);
    } catch (const std::runtime_error&) {
      break;  // too little for any
    }
    if (!plan.bands) continue;
    EXPECT_LE(plan.peak, options.max_memory);
    const bool cuts_columns = plan.tile_width < whole.tile_width;
    if (cuts_columns ? strips : bands) continue;
    (cuts_columns ? strips : bands) = true;
    if (!cuts_columns) {
      EXPECT_LE(plan.work, 1.0001) << "bands of whole rows make nothing twice";
    }
    std::int64_t heard = 0;
    const Segmentation made = tight.segment(image, [&](std::int64_t done, std::int64_t all) {
      EXPECT_EQ(done, ++heard);
      EXPECT_EQ(all, plan.tiles);
    });
    EXPECT_EQ(heard, plan.tiles);
    EXPECT_EQ(made.mask, expected.mask);
    EXPECT_EQ(made.probabilities, expected.probabilities);
  }
  EXPECT_TRUE(bands);
}

TEST(LargeImages, RunInBandsWhereMapsOfTheWholeAreLarge) {
  Session session = open();
  EXPECT_FALSE(session.plan(300, 200).bands);
  EXPECT_TRUE(session.plan(200'000, 1000).bands);
  // No size between takes the memory that it could have.
  for (std::int64_t height = 5000; height < 100'000; height += height * test::kTimesLess / 4)
    EXPECT_LE(session.plan(height, 1000).arena, std::uint64_t{1} << 30) << height;
}

TEST(Windows, InAnyOrderGiveTheWhole) {
  constexpr std::int64_t kHeight = 420, kWidth = 390;
  const auto pixels = texture(kHeight, kWidth);
  Session session = open({.winograd = false});
  const Segmentation expected = session.segment({pixels.data(), kHeight, kWidth});
  const PixelScale scale = session.pixel_scale({pixels.data(), kHeight, kWidth});
  std::vector<SegmentationWindow> windows = session.windows(kHeight, kWidth, 320);
  ASSERT_GT(windows.size(), 3u);
  std::shuffle(windows.begin(), windows.end(), std::mt19937(5));
  std::vector<int> seen(pixels.size());
  Session elsewhere = open({.winograd = false});
  for (const SegmentationWindow& window : windows) {
    EXPECT_LE(std::max(window.read_height, window.read_width), 320);
    const auto read = cut_out(pixels, kWidth, window.read_y, window.read_x, window.read_height,
                              window.read_width);
    const Segmentation made = elsewhere.segment_window(
        {read.data(), window.read_height, window.read_width}, window, &scale);
    EXPECT_EQ(made.mask, kept(expected.mask, window, 1));
    EXPECT_EQ(made.probabilities, kept(expected.probabilities, window, 2));
    for (std::int64_t y = window.y; y < window.y + window.height; ++y)
      for (std::int64_t x = window.x; x < window.x + window.width; ++x)
        ++seen[static_cast<std::size_t>(y * kWidth + x)];
  }
  EXPECT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; }));
}

TEST(Windows, GiveTheBytesOfTheWholeWhereOverlapAloneDoesNot) {
  constexpr std::int64_t kHeight = 640, kWidth = 600, kOverlap = 150;
  const auto pixels = texture(kHeight, kWidth);
  Session session = open();
  const Segmentation expected = session.segment({pixels.data(), kHeight, kWidth});
  const PixelScale scale = session.pixel_scale({pixels.data(), kHeight, kWidth});
  const SegmentationWindow window = session.window(kHeight, kWidth, 301, 277, 50, 60);
  const auto read =
      cut_out(pixels, kWidth, window.read_y, window.read_x, window.read_height, window.read_width);
  const Segmentation exact =
      session.segment_window({read.data(), window.read_height, window.read_width}, window, &scale);
  EXPECT_EQ(exact.mask, kept(expected.mask, window, 1));
  EXPECT_EQ(exact.probabilities, kept(expected.probabilities, window, 2));

  // An image of its own around the rectangle, wider than the receptive field, off the grid.
  const std::int64_t y = window.y - kOverlap, x = window.x - kOverlap;
  const std::int64_t height = window.height + 2 * kOverlap, width = window.width + 2 * kOverlap;
  const auto around = cut_out(pixels, kWidth, y, x, height, width);
  const Segmentation naive = session.segment_window(
      {around.data(), height, width}, session.window(height, width, 0, 0, height, width), &scale);
  SegmentationWindow middle = window;
  middle.image_width = width;
  middle.y = middle.x = kOverlap;
  EXPECT_NE(kept(naive.probabilities, middle, 2), kept(expected.probabilities, window, 2));
}

TEST(Windows, OfImagesBeyondMemoryHaveTheShapesOfOthers) {
  Session session = open();
  constexpr std::int64_t kHuge = 1'000'000;
  const SegmentationWindow corner = session.window(kHuge, kHuge, kHuge - 64, 0, 64, 64);
  EXPECT_EQ(corner.read_y + corner.read_height, kHuge);
  EXPECT_EQ(corner.read_x, 0);
  EXPECT_LT(corner.read_height, 1000);
}

TEST(Windows, ArePlannedByThemselves) {
  Session session = open();
  constexpr std::int64_t kHuge = 1'000'000;
  const auto plan = [&](std::int64_t side) {
    return session.plan(session.window(kHuge, kHuge, kHuge / 2, kHuge / 2, side, side), 1);
  };
  const SegmentationPlan small = plan(64), large = plan(2048);
  EXPECT_LT(small.arena, large.arena);
  EXPECT_LT(small.images, large.images);
  EXPECT_LT(large.peak, std::uint64_t{4} << 30) << "the whole image counts";
  const SegmentationWindow whole = session.window(300, 200, 0, 0, 300, 200);
  EXPECT_EQ(session.plan(whole, 4).images - session.plan(whole, 1).images, 2u * 3u * 300u * 200u);
}

TEST(Windows, AreChosenByMemory) {
#if defined(TESSERA_THREAD_SANITIZER) || defined(TESSERA_ADDRESS_SANITIZER)
  GTEST_SKIP() << "the sanitizer's own memory counts as the process's, and grows";
#endif
  constexpr std::int64_t kHeight = 30'000, kWidth = 40'000;
  std::int64_t windows = 0;
  for (const std::uint64_t megabytes : {1000, 600}) {
    SessionOptions options{.winograd = false};
    options.max_memory = megabytes << 20;
    Session session = open(options);
    const WindowGrid grid =
        session.window_grid(kHeight, kWidth, {.height_multiple = 512, .width_multiple = 512});
    EXPECT_LE(grid.plan.peak, options.max_memory);
    EXPECT_EQ(grid.height % 512 + grid.width % 512, 0);
    EXPECT_EQ(grid.plan.tiles, ((kHeight - 1) / grid.height + 1) * ((kWidth - 1) / grid.width + 1));
    EXPECT_GT(grid.plan.work, 1.0);
    EXPECT_LT(grid.plan.work, 1.5);
    EXPECT_GT(grid.plan.tiles, windows) << "less memory, more windows";
    windows = grid.plan.tiles;
    const WindowGrid shared = session.window_grid(
        kHeight, kWidth, {.height_multiple = 512, .width_multiple = 512, .at_least = 4 * windows});
    EXPECT_GE(shared.plan.tiles, 4 * windows);
    const WindowGrid deep = session.window_grid(
        kHeight, kWidth, {.height_multiple = 512, .width_multiple = 512, .pixel_bytes = 12});
    EXPECT_LE(deep.plan.peak, options.max_memory);
    EXPECT_GE(deep.plan.tiles, windows);
  }
  Session session = open({.max_memory = 1});
  EXPECT_THAT(error_of([&] {
                session.window_grid(kHeight, kWidth,
                                    {.height_multiple = 512, .width_multiple = 512});
              }),
              HasSubstr("in the smallest windows, which keep 512 x 512"));
  EXPECT_THAT(error_of([&] { session.window_grid(kHeight, kWidth, {.height_multiple = 0}); }),
              HasSubstr("expected numbers above 0"));
}

TEST(Windows, AreChosenByChunksAndTile) {
  Session session = open();
  constexpr std::int64_t kHeight = 3001, kWidth = 2900;
  const auto widest_read = [&](const WindowGrid& grid) {
    std::int64_t side = 0;
    for (std::int64_t y = 0; y < kHeight; y += grid.height)
      for (std::int64_t x = 0; x < kWidth; x += grid.width) {
        const SegmentationWindow w =
            session.window(kHeight, kWidth, y, x, std::min(grid.height, kHeight - y),
                           std::min(grid.width, kWidth - x));
        side = std::max({side, w.read_height, w.read_width});
      }
    return side;
  };
  const WindowWish chunks{.height_multiple = 50, .width_multiple = 70, .tile = 1000};
  const WindowGrid grid = session.window_grid(kHeight, kWidth, chunks);
  EXPECT_EQ(grid.height % 50 + grid.width % 70, 0);
  EXPECT_LE(widest_read(grid), 1000);

  WindowWish none_fit = chunks;
  none_fit.height_multiple = 1000;
  EXPECT_THAT(error_of([&] { session.window_grid(kHeight, kWidth, none_fit); }),
              HasSubstr("the smallest windows keep 1000 x 70"));
  none_fit.height_multiple = INT64_MAX;  // of a store whose chunk is larger than the image
  none_fit.tile = 0;
  EXPECT_GE(session.window_grid(kHeight, kWidth, none_fit).height, kHeight);
  none_fit.tile = 1000;
  none_fit.or_any = true;
  const WindowGrid any = session.window_grid(kHeight, kWidth, none_fit);
  EXPECT_LE(widest_read(any), 1000);
  EXPECT_GT(any.height, 200);

  EXPECT_THAT(error_of([&] { session.windows(std::int64_t{1} << 31, 5, 1024); }),
              HasSubstr("a side of 2^31"));
  EXPECT_THAT(error_of([&] { session.windows(1 << 30, 1 << 30, 1024); }),
              HasSubstr("more than 1048576 of them"));
  EXPECT_THAT(error_of([&] { session.window_grid(std::int64_t{1} << 62, 5, {}); }),
              HasSubstr("1 to 2^31 - 1"));
  const WindowWish little{.max_memory = 1};  // of a session that has all that the machine grants
  EXPECT_THAT(error_of([&] { session.window_grid(kHeight, kWidth, little); }),
              HasSubstr("the limit is 0.0 MiB"));
}

TEST(PixelScale, OfRowsIsThatOfTheWhole) {
  constexpr std::int64_t kHeight = 101, kWidth = 90;
  const auto pixels = texture(kHeight, kWidth);
  const Session session = open();
  const PixelScale whole = session.pixel_scale({pixels.data(), kHeight, kWidth});
  int passes = 0;
  ASSERT_TRUE(session.needs_pixel_scale());
  const PixelScale scale = session.pixel_scale([&](const auto& take) {
    ++passes;
    for (std::int64_t y = 0, rows = 0; y < kHeight; y += rows) {
      rows = std::min(1 + y % 7, kHeight - y);
      take(ImageView{pixels.data() + y * kWidth, rows, kWidth});
    }
  });
  EXPECT_EQ(scale.offset, whole.offset);
  EXPECT_EQ(scale.divisor, whole.divisor);
  EXPECT_EQ(passes, 2) << "mean, then deviation";
}

TEST(Windows, ThatAreNoneAreRefused) {
  Session session = open();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::pair<std::int64_t, std::int64_t>> rows{
      {0, 0}, {-1, 5}, {90, 11}, {kMost, kMost}, {1, kMost}};
  for (const auto& row : rows) {
    EXPECT_THAT(error_of([&] { session.window(100, 100, row.first, 0, row.second, 10); }),
                HasSubstr("does not lie in an image of 100 x 100"));
  }
  EXPECT_THAT(error_of([&] { session.window(kMost, 100, 0, 0, 1, 1); }), HasSubstr("2^31"));
  EXPECT_THAT(error_of([&] { session.windows(900, 900, 40); }), HasSubstr("is too small"));
  EXPECT_THAT(error_of([&] { session.windows(900, 900, 0); }), HasSubstr("above 0"));
  const std::vector<std::uint8_t> pixels(100 * 100);
  SegmentationWindow window = session.window(100, 100, 10, 10, 20, 20);
  EXPECT_THAT(error_of([&] {
                session.segment_window({pixels.data(), 99, 100}, window);
              }),
              HasSubstr("were given to a window that reads 100 x 100"));
  window.read_y = 1;
  EXPECT_THAT(error_of([&] {
                session.segment_window({pixels.data(), 100, 100}, window);
              }),
              HasSubstr("reads other pixels than it says"));
}

}  // namespace
}  // namespace tessera
