// Images that are read and written part by part.
#include "models/image/pixel_source.h"

#include <gmock/gmock.h>

#include "models/image/image_rows.h"
#include "models/image/png.h"
#include "models/image/tiff.h"
#include "tests/support/image_files.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using testing::HasSubstr;

using PixelSources = test::ImageFiles;

// Written in tiles of 512, or in strips.
fs::path write_picture(const fs::path& path, const Image& image, bool tiled, bool big = false) {
  if (tiled) {
    TiledTiffWriter writer(path, image.height, image.width, image.pixels);
    writer.write(0, 0, image);
    writer.commit();
  } else {
    TiffWriter writer(path, big ? int64_t{1} << 40 : 0);
    writer.append(image);
    writer.commit();
  }
  return path;
}

TEST_F(PixelSources, TilesAreWrittenInAnyOrder) {
  for (const auto& [height, width] : {std::pair{1, 1}, {512, 512}, {513, 1023}, {1100, 1500}}) {
    const Image image = random_image<uint16_t>(height, width, 1);
    const fs::path path = folder_ / "tiles.tif";
    TiledTiffWriter writer(path, height, width, image.pixels);
    constexpr int64_t kTile = TiledTiffWriter::kTile;
    for (int64_t y = (height - 1) / kTile * kTile; y >= 0; y -= kTile) {
      EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("lacks"));
      for (int64_t x = (width - 1) / kTile * kTile; x >= 0; x -= kTile)
        writer.write(y, x,
                     cut_out(image, {y, x, std::min<int64_t>(y + kTile, height),
                                     std::min<int64_t>(x + kTile, width)}));
    }
    EXPECT_THAT(error_of([&] { writer.write(0, 7, image); }), HasSubstr("is no tiles of"));
    writer.commit();
    expect_reads(ImageReader(path), image);
  }
}

TEST_F(PixelSources, ReadEveryRectangleOnce) {
  const Image image = random_image<uint8_t>(1500, 2600, 1);
  write_png(folder_ / "a.png", image);
  for (const fs::path& path :
       {write_picture(folder_ / "tiles.tif", image, true),
        write_picture(folder_ / "strips.tif", image, false),
        write_picture(folder_ / "big.tif", image, false, true), folder_ / "a.png"}) {
    SCOPED_TRACE(path);
    PixelSource source{ImageReader(path)};
    EXPECT_EQ(source.layout().height, 1500);
    EXPECT_EQ(source.pixel_bytes(), 1u);
    // Windows with a halo of 60, in reading order.
    std::vector<ImageWindow> windows;
    for (int64_t y = 0; y < 1500; y += 512)
      for (int64_t x = 0; x < 2600; x += 1024)
        windows.push_back({std::max<int64_t>(0, y - 60), std::max<int64_t>(0, x - 60),
                           std::min<int64_t>(1500, y + 572), std::min<int64_t>(2600, x + 1084)});
    for (size_t i = 0; i < windows.size(); ++i)
      expect_equal(
          *source.read(windows[i], i + 1 < windows.size() ? windows[i + 1] : ImageWindow{}),
          cut_out(image, windows[i]));
    expect_equal(*source.read({3, 5, 4, 6}), cut_out(image, {3, 5, 4, 6}));
  }
}

TEST_F(PixelSources, ReadLittleMoreThanTheImage) {
  constexpr int64_t kHeight = 3000, kWidth = 9000;
  const fs::path path =
      write_picture(folder_ / "a.tif", random_image<uint8_t>(kHeight, kWidth, 1), true);
  PixelSource source{ImageReader(path)};
  for (int64_t x = 0; x < kWidth; x += 3072) {
    const auto window = [&](int64_t begin) {
      return ImageWindow{0, std::max<int64_t>(0, begin - 300), kHeight,
                         std::min(kWidth, begin + 3072 + 300)};
    };
    source.read(window(x), x + 3072 < kWidth ? window(x + 3072) : ImageWindow{});
  }
  EXPECT_LE(static_cast<double>(source.pixels_read()), 1.2 * kHeight * kWidth);
}

// Small windows of an image in strips would decode each strip for each column of windows.
TEST_F(PixelSources, DecodeWhatManyWindowsReadOnce) {
  constexpr int64_t kHeight = 900, kWidth = 1300, kKept = 256, kHalo = 40;
  const Image image = random_image<uint16_t>(kHeight, kWidth, 3);
  std::vector<ImageWindow> windows;
  for (int64_t y = 0; y < kHeight; y += kKept)
    for (int64_t x = 0; x < kWidth; x += kKept)
      windows.push_back({std::max<int64_t>(0, y - kHalo), std::max<int64_t>(0, x - kHalo),
                         std::min(kHeight, y + kKept + kHalo),
                         std::min(kWidth, x + kKept + kHalo)});
  TiledTiffWriter tiles(folder_ / "tiles.tif", kHeight, kWidth, std::vector<uint8_t>());
  const Image grey = random_image<uint8_t>(kHeight, kWidth, 1);
  tiles.write(0, 0, grey);
  tiles.commit();
  for (const auto& [path, whole] :
       {std::pair{folder_ / "tiles.tif", &grey},
        {write_picture(folder_ / "strips.tif", image, false), &image}}) {
    SCOPED_TRACE(path);
    PixelSource source{ImageReader(path)};
    source.expect(windows, kHeight * kWidth, folder_);
    for (size_t i = 0; i < windows.size(); ++i)
      expect_equal(
          *source.read(windows[i], i + 1 < windows.size() ? windows[i + 1] : ImageWindow{}),
          cut_out(*whole, windows[i]));
    EXPECT_EQ(source.pixels_read(), kHeight * kWidth);
    // Backwards costs reading, no more.
    expect_equal(*source.read(windows[0]), cut_out(*whole, windows[0]));
  }
  // A folder that is none is told when it is needed.
  PixelSource source{ImageReader(folder_ / "strips.tif")};
  source.expect(windows, kHeight * kWidth, folder_ / "strips.tif");
  EXPECT_THAT(error_of([&] { source.read(windows[0]); }), HasSubstr("it must be a folder"));
  // The whole is read as it lies.
  source.expect(std::vector<ImageWindow>{{0, 0, kHeight, kWidth}}, kHeight * kWidth, {});
  expect_equal(*source.read({0, 0, kHeight, kWidth}), image);
}

TEST_F(PixelSources, GiveAllRowsInOrder) {
  const Image image = random_image<uint16_t>(2000, 6000, 1);  // 24 MB; a row of tiles has 6
  for (const bool tiled : {true, false}) {
    for (const fs::path& scratch : {fs::path(), folder_}) {
      SCOPED_TRACE(testing::Message() << tiled << ", " << scratch);
      PixelSource source{ImageReader(write_picture(folder_ / "a.tif", image, tiled))};
      for (int round = 0; round < 2; ++round) {
        std::vector<uint16_t> all;
        int parts = 0;
        source.read_rows(
            [&](const Image& rows) {
              EXPECT_EQ(rows.width, image.width);
              const auto& some = std::get<std::vector<uint16_t>>(rows.pixels);
              if (!scratch.empty()) {
                EXPECT_LE(some.size() * sizeof(some[0]), size_t{1} << 22);
              }
              all.insert(all.end(), some.begin(), some.end());
              ++parts;
            },
            scratch);
        EXPECT_TRUE(Image::Pixels(std::move(all)) == image.pixels);
        EXPECT_GT(parts, 1);
        EXPECT_EQ(source.pixels_read(), (round + 1) * image.height * image.width);
      }
    }
  }
}

template <class T>
void expect_equal_scales(const Image& image) {
  for (const int64_t channels : {1, 3}) {
    for (const Scale scale : {Scale::kStandardize, Scale::kMinMax, Scale::kUnit}) {
      Preprocessing preprocessing{.channels = channels, .scale = scale};
      if (scale == Scale::kUnit) preprocessing.range = ValueRange{.automatic = true};
      ASSERT_TRUE(needs_all_pixels(preprocessing));
      const LinearScale whole = RowNormaliser(image, preprocessing).scale();
      for (const int64_t rows : {1, 7, 64}) {
        const LinearScale parts = scale_of(
            [&](const auto& take) {
              for (int64_t y = 0; y < image.height; y += rows)
                take(cut_out(image, {y, 0, std::min(y + rows, image.height), image.width}));
            },
            preprocessing);
        EXPECT_EQ(parts.offset, whole.offset);
        EXPECT_EQ(parts.divisor, whole.divisor);
      }
    }
  }
}

TEST(PixelScale, OfPartsIsThatOfTheWhole) {
  for (const int64_t channels : {1, 3}) {
    expect_equal_scales<uint8_t>(random_image<uint8_t>(50, 31, channels));
    expect_equal_scales<uint16_t>(random_image<uint16_t>(50, 31, channels));
    expect_equal_scales<float>(random_image<float>(50, 31, channels));
  }
  Image bad = random_image<float>(5, 4, 1);
  std::get<std::vector<float>>(bad.pixels)[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(
      error_of([&] { scale_of([&](const auto& take) { take(bad); }, {.scale = Scale::kMinMax}); }),
      HasSubstr("expected finite numbers"));
}

// ---- hostile files -----------------------------------------------------------------------------

TEST_F(PixelSources, DamagedTilesAreNamed) {
  const Image image = random_image<uint8_t>(1100, 1100, 1);  // random: tiles are as large as pixels
  const Bytes whole = load(write_picture(folder_ / "a.tif", image, true));
  const auto refused = [&](Bytes bytes, const ImageWindow& part) {
    return error_of([&] { PixelSource(ImageReader(std::move(bytes), "slide")).read(part); });
  };
  // Tiles lie in the order in which they were written, the first one behind the header.
  Bytes changed = whole;
  std::fill_n(changed.begin() + 2000, 4000, uint8_t{0x5a});
  EXPECT_THAT(refused(changed, {0, 0, 5, 5}),
              HasSubstr("the tile of row 0, column 0 does not decode"));
  expect_equal(*PixelSource(ImageReader(changed, "slide")).read({0, 600, 5, 700}),
               cut_out(image, {0, 600, 5, 700}));  // of another tile
  Bytes shorter(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2));
  EXPECT_THAT(refused(shorter, {0, 0, 5, 5}), HasSubstr("truncated"));
}

TEST_F(PixelSources, AStackIsRefused) {
  TiffWriter stack(folder_ / "stack.tif");
  for (const int64_t side : {64, 17}) stack.append(random_image<uint8_t>(side, side, 1));
  stack.commit();
  EXPECT_THAT(
      error_of([&] { PixelSource{ImageReader(folder_ / "stack.tif")}; }),
      testing::AllOf(HasSubstr("stack.tif' is a stack of 2 pages"), HasSubstr("-o FOLDER")));
  TiffWriter thumbnail(folder_ / "thumbnail.tif");
  for (const int64_t side : {64, 16}) thumbnail.append(random_image<uint8_t>(side, side, 1));
  thumbnail.commit();
  EXPECT_EQ(PixelSource{ImageReader(folder_ / "thumbnail.tif")}.layout().height, 64);
  EXPECT_THAT(error_of([&] {
                ImageReader(folder_ / "stack.tif").read_part({0, 0, 65, 1});
              }),
              HasSubstr("do not lie in a picture of 64 x 64"));
  EXPECT_THAT(error_of([&] {
                ImageReader(folder_ / "stack.tif").read_part({0, 0, 1, 1}, 2);
              }),
              HasSubstr("page 2 of 2"));
}

}  // namespace
}  // namespace tessera
