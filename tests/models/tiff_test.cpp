// TIFF: every layout of its pixels, every kind of samples, channels beyond the colours.
#include "models/image/tiff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tiffio.h>

#include <cmath>
#include <cstring>

#include "tests/support/tiff_files.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using TiffFiles = test::ImageFiles;

// ---- layouts -----------------------------------------------------------------------------------

TEST_F(TiffFiles, RoundTripsPagesOfEveryType) {
  const std::vector<Image> pages = {random_image<uint8_t>(7, 5, 1),
                                    random_image<uint16_t>(700, 500, 3),
                                    random_image<uint32_t>(3, 4, 1), random_image<float>(9, 2, 3),
                                    random_image<uint8_t>(1, 1, 3)};
  for (const int64_t expected_bytes : {int64_t{0}, int64_t{1} << 40}) {  // classic and BigTIFF
    TiffWriter writer(folder_ / "a.tif", expected_bytes);
    for (const Image& page : pages) writer.append(page);
    writer.commit();
    ImageReader from_file(folder_ / "a.tif");
    ImageReader from_memory(load(folder_ / "a.tif"), "stdin");
    ASSERT_EQ(from_file.page_count(), 5);
    ASSERT_EQ(from_memory.page_count(), 5);
    for (const int64_t page : {0, 1, 2, 3, 4, 2, 0, 4}) {
      expect_equal(from_file.read(page), pages[static_cast<size_t>(page)]);
      expect_equal(from_memory.read(page), pages[static_cast<size_t>(page)]);
    }
    EXPECT_THAT(error_of([&] { from_file.read(5); }), HasSubstr("page 5 of 5"));
  }
}

struct TiffLayout {
  uint16_t bits = 8;
  uint16_t samples = 1;
  uint16_t photometric = PHOTOMETRIC_MINISBLACK;
  uint16_t planar = PLANARCONFIG_CONTIG;
  uint16_t compression = COMPRESSION_NONE;
  bool tiled = false;
  const char* mode = "w";            // "wb" writes big-endian
  std::vector<uint16_t> extra = {};  // ExtraSamples
};

// Writes `value(y, x, sample)` through libtiff itself, in strips of 5 rows or tiles of 16 x 32.
template <class T, class Value>
void write_layout(const fs::path& path, const TiffLayout& layout, uint32_t height, uint32_t width,
                  Value value) {
  TIFF* file = TIFFOpen(path.c_str(), layout.mode);
  ASSERT_NE(file, nullptr);
  TIFFSetField(file, TIFFTAG_IMAGEWIDTH, width);
  TIFFSetField(file, TIFFTAG_IMAGELENGTH, height);
  TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, layout.bits);
  TIFFSetField(file, TIFFTAG_SAMPLESPERPIXEL, layout.samples);
  TIFFSetField(file, TIFFTAG_PHOTOMETRIC, layout.photometric);
  TIFFSetField(file, TIFFTAG_PLANARCONFIG, layout.planar);
  if (!layout.extra.empty())
    TIFFSetField(file, TIFFTAG_EXTRASAMPLES, layout.extra.size(), layout.extra.data());
  TIFFSetField(file, TIFFTAG_COMPRESSION, layout.compression);
  if (layout.photometric == PHOTOMETRIC_PALETTE) {
    std::vector<uint16_t> ramp(size_t{1} << layout.bits);
    for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<uint16_t>(i << 8);
    std::vector<uint16_t> reversed(ramp.rbegin(), ramp.rend());
    TIFFSetField(file, TIFFTAG_COLORMAP, ramp.data(), reversed.data(), ramp.data());
  }
  const uint32_t chunk_height = layout.tiled ? 16 : 5;
  const uint32_t chunk_width = layout.tiled ? 32 : width;
  if (layout.tiled) {
    TIFFSetField(file, TIFFTAG_TILEWIDTH, chunk_width);
    TIFFSetField(file, TIFFTAG_TILELENGTH, chunk_height);
  } else {
    TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, chunk_height);
  }
  const bool separate = layout.planar == PLANARCONFIG_SEPARATE;
  uint32_t index = 0;
  for (uint16_t plane = 0; plane < (separate ? layout.samples : 1); ++plane) {
    for (uint32_t y0 = 0; y0 < height; y0 += chunk_height) {
      for (uint32_t x0 = 0; x0 < width; x0 += chunk_width, ++index) {
        std::vector<T> chunk;
        const uint32_t rows = layout.tiled ? chunk_height : std::min(chunk_height, height - y0);
        for (uint32_t y = y0; y < y0 + rows; ++y) {
          for (uint32_t x = x0; x < x0 + chunk_width; ++x) {
            for (uint16_t s = 0; s < (separate ? 1 : layout.samples); ++s) {
              chunk.push_back(value(y, x, separate ? plane : s));
            }
          }
        }
        const auto size = static_cast<tmsize_t>(chunk.size() * sizeof(T));
        const tmsize_t written = layout.tiled
                                     ? TIFFWriteEncodedTile(file, index, chunk.data(), size)
                                     : TIFFWriteEncodedStrip(file, index, chunk.data(), size);
        ASSERT_EQ(written, size);
      }
    }
  }
  TIFFClose(file);
}

TEST_F(TiffFiles, InEveryLayout) {
  const fs::path path = folder_ / "a.tif";
  const auto value = [](uint32_t y, uint32_t x, uint32_t s) {
    return static_cast<uint16_t>(1000 * y + 7 * x + 333 * s);
  };
  for (const bool tiled : {false, true}) {
    for (const uint16_t planar : {PLANARCONFIG_CONTIG, PLANARCONFIG_SEPARATE}) {
      for (const uint16_t samples : {1, 2, 3, 4}) {  // 2 and 4: with alpha, which is dropped
        for (const uint16_t compression :
             {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE, COMPRESSION_PACKBITS}) {
          for (const char* mode : {"w", "wb"}) {
            const uint16_t colours = samples >= 3 ? 3 : 1;
            SCOPED_TRACE(fmt::format("tiled {} planar {} samples {} compression {} {}", tiled,
                                     planar, samples, compression, mode));
            write_layout<uint16_t>(
                path,
                {16, samples,
                 static_cast<uint16_t>(colours == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK),
                 planar, compression, tiled, mode,
                 samples % 2 == 0 ? std::vector<uint16_t>{EXTRASAMPLE_UNASSALPHA}
                                  : std::vector<uint16_t>{}},
                37, 45, value);
            expect_reads(ImageReader(path), expected_image<uint16_t>(37, 45, colours, value));
          }
        }
      }
    }
  }
}

TEST_F(TiffFiles, PaletteWhiteIsZeroAndOneBit) {
  const fs::path path = folder_ / "a.tif";
  const auto index = [](uint32_t y, uint32_t x, uint32_t) { return static_cast<uint8_t>(y ^ x); };
  write_layout<uint8_t>(path, {.photometric = PHOTOMETRIC_PALETTE}, 6, 9, index);
  expect_reads(ImageReader(path),
               expected_image<uint8_t>(6, 9, 3, [&](uint32_t y, uint32_t x, uint32_t s) {
                 const uint8_t i = index(y, x, 0);
                 return static_cast<uint8_t>(s == 1 ? 255 - i : i);
               }));

  write_layout<uint8_t>(path, {.photometric = PHOTOMETRIC_MINISWHITE}, 6, 9, index);
  expect_reads(ImageReader(path),
               expected_image<uint8_t>(6, 9, 1, [&](uint32_t y, uint32_t x, uint32_t) {
                 return static_cast<uint8_t>(255 - index(y, x, 0));
               }));

  TIFF* file = TIFFOpen(path.c_str(), "w");
  TIFFSetField(file, TIFFTAG_IMAGEWIDTH, 5);
  TIFFSetField(file, TIFFTAG_IMAGELENGTH, 2);
  TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, 1);
  TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, 2);
  uint8_t rows[2] = {0b10110000, 0b00001000};
  ASSERT_EQ(TIFFWriteEncodedStrip(file, 0, rows, 2), 2);
  TIFFClose(file);
  expect_reads(ImageReader(path),
               {2, 5, 1, std::vector<uint8_t>{255, 0, 255, 255, 0, 0, 0, 0, 0, 255}});
}

TEST_F(TiffFiles, WithJpegInside) {
  const fs::path path = folder_ / "a.tif";
  const auto flat = [](uint32_t, uint32_t, uint32_t s) { return static_cast<uint8_t>(60 * s); };
  write_layout<uint8_t>(path,
                        {.samples = 3,
                         .photometric = PHOTOMETRIC_RGB,
                         .compression = COMPRESSION_JPEG,
                         .tiled = true},
                        37, 45, flat);
  const Image image = ImageReader(path).read();
  ASSERT_EQ(image.channels, 3);
  const auto& pixels = std::get<std::vector<uint8_t>>(image.pixels);
  ASSERT_EQ(pixels.size(), 37u * 45 * 3);
  for (size_t i = 0; i < pixels.size(); ++i) {
    ASSERT_LE(std::abs(pixels[i] - static_cast<int>(60 * (i % 3))), 2) << i;
  }
}

TEST_F(TiffFiles, AThousandPagesInAnyOrder) {
  TiffWriter writer(folder_ / "stack.tif");
  for (unsigned page = 0; page < 1000; ++page) writer.append(random_image<uint8_t>(8, 8, 1, page));
  writer.commit();
  ImageReader reader(folder_ / "stack.tif");
  ASSERT_EQ(reader.page_count(), 1000);
  for (unsigned page = 0; page < 1000; ++page) {
    expect_equal(reader.read(page), random_image<uint8_t>(8, 8, 1, page));
  }
  expect_equal(reader.read(17), random_image<uint8_t>(8, 8, 1, 17));
}

// ---- channels beyond the colours ---------------------------------------------------------------

TEST_F(TiffFiles, OnlyADeclaredAlphaIsDropped) {
  const fs::path path = folder_ / "a.tif";
  const auto value = [](uint32_t y, uint32_t x, uint32_t s) {
    return static_cast<uint8_t>(10 * y + x + 50 * s);
  };
  const auto write = [&](uint16_t samples, std::vector<uint16_t> extra, uint16_t planar,
                         uint16_t compression = COMPRESSION_NONE) {
    const bool grey = samples == 2;
    write_layout<uint8_t>(
        path,
        {.samples = samples,
         .photometric = static_cast<uint16_t>(grey ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB),
         .planar = planar,
         .compression = compression,
         .tiled = compression == COMPRESSION_JPEG,  // strips of 5 rows are none of JPEG's
         .extra = std::move(extra)},
        8, 16, value);
  };
  const auto refused = [&] { return error_of([&] { ImageReader(path).read(); }); };
  for (const uint16_t planar : {PLANARCONFIG_CONTIG, PLANARCONFIG_SEPARATE}) {
    SCOPED_TRACE(planar);
    for (const uint16_t alpha : {EXTRASAMPLE_ASSOCALPHA, EXTRASAMPLE_UNASSALPHA}) {
      write(4, {alpha}, planar);
      expect_reads(ImageReader(path), expected_image<uint8_t>(8, 16, 3, value));
      write(2, {alpha}, planar);
      expect_reads(ImageReader(path), expected_image<uint8_t>(8, 16, 1, value));
    }
    write(4, {EXTRASAMPLE_UNSPECIFIED}, planar);
    EXPECT_THAT(refused(),
                HasSubstr("4 channels: red, green, blue, one not specified (ExtraSamples 0)"));
    write(4, {}, planar);  // the tag is missing
    EXPECT_THAT(refused(), HasSubstr("one not specified (ExtraSamples 0)"));
    write(2, {EXTRASAMPLE_UNSPECIFIED}, planar);
    EXPECT_THAT(refused(), HasSubstr("2 channels: grey, one not specified"));
    write(5, {EXTRASAMPLE_UNASSALPHA, EXTRASAMPLE_UNSPECIFIED}, planar);
    EXPECT_THAT(refused(), HasSubstr("5 channels: red, green, blue, alpha (ExtraSamples 2), one"));
    write(5, {EXTRASAMPLE_UNASSALPHA, EXTRASAMPLE_ASSOCALPHA}, planar);
    EXPECT_THAT(refused(), HasSubstr("nothing beside it but one alpha"));
    write(30, std::vector<uint16_t>(27, EXTRASAMPLE_UNSPECIFIED), planar);
    EXPECT_THAT(refused(), HasSubstr("30 channels: red, green, blue, one not"));
    EXPECT_THAT(refused(), HasSubstr("and 23 more"));
    // Any of them can be chosen, the whole or a part.
    for (const uint32_t channel : {0u, 3u, 29u}) {
      ImageReader reader(path);
      reader.choose({.channel = channel});
      const Image one = expected_image<uint8_t>(
          8, 16, 1, [&](uint32_t y, uint32_t x, uint32_t) { return value(y, x, channel); });
      expect_equal(reader.read(), one);
      expect_equal(reader.read_part({2, 3, 7, 12}), cut_out(one, {2, 3, 7, 12}));
    }
    EXPECT_THAT(error_of([&] {
                  ImageReader reader(path);
                  reader.choose({.channel = 30});
                  reader.read();
                }),
                HasSubstr("--channel 30: it has 30 channels"));
  }
  write(4, {EXTRASAMPLE_UNSPECIFIED}, PLANARCONFIG_CONTIG, COMPRESSION_JPEG);
  EXPECT_THAT(refused(), HasSubstr("one not specified (ExtraSamples 0)"));
}

// ---- kinds of samples --------------------------------------------------------------------------

// Samples are packed, the highest bit first, and each row begins at a byte.
TEST_F(TiffFiles, BitsThatDoNotFillTheirType) {
  const fs::path path = folder_ / "a.tif";
  for (const uint16_t bits : {3, 5, 9, 10, 12, 14, 15}) {
    for (const char* mode : {"w", "wb"}) {
      SCOPED_TRACE(fmt::format("{} bits, {}", bits, mode));
      const uint32_t white = (1u << bits) - 1;
      const std::vector<uint32_t> values = {0, 1, white / 3, white / 2, white - 1, white, 2, 6};
      constexpr uint32_t kColumns = 4;
      TIFF* file = TIFFOpen(path.c_str(), mode);
      TIFFSetField(file, TIFFTAG_IMAGEWIDTH, kColumns);
      TIFFSetField(file, TIFFTAG_IMAGELENGTH, 2);
      TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, bits);
      TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
      TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, 2);
      Bytes rows;
      for (size_t y = 0; y < 2; ++y) {
        uint64_t row = 0;  // up to 60 bits
        for (size_t x = 0; x < kColumns; ++x) row = row << bits | values[y * kColumns + x];
        const int row_bytes = (static_cast<int>(kColumns) * bits + 7) / 8;
        row <<= 8 * row_bytes - static_cast<int>(kColumns) * bits;
        for (int i = row_bytes - 1; i >= 0; --i) rows.push_back(static_cast<uint8_t>(row >> 8 * i));
      }
      const auto size = static_cast<tmsize_t>(rows.size());
      ASSERT_EQ(TIFFWriteEncodedStrip(file, 0, rows.data(), size), size);
      TIFFClose(file);
      const auto expect = [&]<class T>(T full) {
        std::vector<T> pixels;
        for (const uint32_t value : values)
          pixels.push_back(static_cast<T>(std::lround(double{1} * value * full / white)));
        expect_reads(ImageReader(path), {2, kColumns, 1, std::move(pixels)});
      };
      if (bits < 8) {
        expect(uint8_t{255});
      } else {
        expect(uint16_t{65535});
      }
    }
  }
}

TEST_F(TiffFiles, AStripOutsideOfTheFileIsSaidPlainly) {
  const Bytes whole = hand_made({}, Bytes(16));
  // StripOffsets: a single long.
  const uint8_t entry[] = {0x11, 1, 4, 0, 1, 0, 0, 0};
  for (const uint32_t begin : {1000u, 0xfffffff0u}) {
    Bytes bytes = whole;
    const auto found = std::search(bytes.begin(), bytes.end(), std::begin(entry), std::end(entry));
    ASSERT_NE(found, bytes.end());
    std::memcpy(&*found + sizeof(entry), &begin, sizeof(begin));
    EXPECT_THAT(
        error_of([&] { read_bytes(bytes); }),
        AllOf(HasSubstr(fmt::format("the strip of row 0, column 0 has 16 bytes from byte {} on, "
                                    "but the file has {}",
                                    begin, whole.size())),
              Not(HasSubstr("scanline"))));
    EXPECT_THAT(error_of([&] {
                  ImageReader(bytes, "part").read_part({1, 1, 2, 3});
                }),
                HasSubstr("the strip of row 0, column 0 has 16 bytes from byte"));
  }
}

TEST_F(TiffFiles, KindsThatAreNotReadAreNamed) {
  const auto refused = [&](std::vector<Tag> tags) {
    const Bytes bytes = hand_made(std::move(tags), Bytes(64));
    return error_of([&] { read_bytes(bytes); });
  };
  EXPECT_THAT(refused({{kBits, 3, 1, 16}, {kSampleFormat, 3, 1, 2}}), HasSubstr("16-bit signed"));
  EXPECT_THAT(refused({{kBits, 3, 1, 64}}), HasSubstr("64-bit unsigned"));
  EXPECT_THAT(refused({{kBits, 3, 1, 16}, {kSampleFormat, 3, 1, 3}}), HasSubstr("16-bit float"));
  EXPECT_THAT(refused({{kPhotometric, 3, 1, 5}, {kSamples, 3, 1, 4}}), HasSubstr("TIFF in CMYK"));
  EXPECT_THAT(refused({{kPhotometric, 3, 1, 8}, {kSamples, 3, 1, 3}}), HasSubstr("L*a*b*"));
}

}  // namespace
}  // namespace tessera
