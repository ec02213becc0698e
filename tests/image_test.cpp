// Image files in and out, normalisation, mirrored borders and overlays.
#include "models/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tiffio.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include <jpeglib.h>  // needs <cstdio> before it

#include "engine/atomic_file.h"
#include "kernels/error.h"
#include "models/image_io.h"
#include "models/mask.h"
#include "models/png.h"
#include "models/tiff.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Bytes = std::vector<uint8_t>;

template <class Work>
std::string error_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A folder of its own for each test, removed with it.
class ImageFiles : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() /
              fmt::format("tessera-{}-{}-{}", info->test_suite_name(), info->name(), ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      result.push_back(entry.path().filename().string());
    }
    return result;
  }

  fs::path folder_;
};

Bytes load(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

template <class T>
Image random_image(int64_t height, int64_t width, int64_t channels, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<T> pixels(static_cast<size_t>(height * width * channels));
  for (T& value : pixels) value = static_cast<T>(random());
  return {height, width, channels, std::move(pixels)};
}

void expect_equal(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(pixel_type_name(a), pixel_type_name(b));
  EXPECT_TRUE(a.pixels == b.pixels);
}

Image read_bytes(Bytes bytes, int64_t max_samples = kMaxSamples) {
  return ImageReader(std::move(bytes), "test", max_samples).read();
}

void append(Bytes& bytes, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> 8 * i));
}

Bytes text_bytes(std::string_view text, std::initializer_list<uint8_t> rest = {}) {
  Bytes bytes(text.begin(), text.end());
  bytes.insert(bytes.end(), rest);
  return bytes;
}

// 24-bit, 2 x 2, from bottom to top: red green / blue white.
Bytes tiny_bmp(uint32_t width = 2, uint32_t height = 2) {
  Bytes bytes = {'B', 'M'};
  append(bytes, 70, 4);
  append(bytes, 0, 4);
  append(bytes, 54, 4);
  append(bytes, 40, 4);
  append(bytes, width, 4);
  append(bytes, height, 4);
  append(bytes, 1, 2);
  append(bytes, 24, 2);
  for (int i = 0; i < 6; ++i) append(bytes, 0, 4);
  const Bytes rows = {255, 0, 0, 255, 255, 255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 0};
  bytes.insert(bytes.end(), rows.begin(), rows.end());
  return bytes;
}

// A baseline JPEG of 8 x 8 grey pixels: all DC coefficients 0 (mid-grey) by a one-bit Huffman code.
Bytes tiny_jpeg(uint8_t height_high = 0, uint8_t width_high = 0) {
  Bytes bytes = {0xff, 0xd8, 0xff, 0xdb, 0, 67, 0};
  bytes.insert(bytes.end(), 64, 1);
  const Bytes frame = {0xff, 0xc0, 0, 11, 8, height_high, 8, width_high, 8, 1, 1, 0x11, 0};
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  for (const uint8_t table : {0x00, 0x10}) {  // DC, AC: one code of one bit, for the symbol 0
    const Bytes head = {0xff, 0xc4, 0, 20, table, 1};
    bytes.insert(bytes.end(), head.begin(), head.end());
    bytes.insert(bytes.end(), 15 + 1, 0);
  }
  const Bytes scan = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x3f, 0xff, 0xd9};
  bytes.insert(bytes.end(), scan.begin(), scan.end());
  return bytes;
}

// ---- reading -----------------------------------------------------------------------------------

TEST(ImageReading, PnmOf8And16BitAndAnyMaximum) {
  expect_equal(read_bytes(text_bytes("P5 # grey\n3 1\n255\n", {1, 2, 255})),
               {1, 3, 1, std::vector<uint8_t>{1, 2, 255}});
  expect_equal(read_bytes(text_bytes("P6\n1 1 255\n", {9, 8, 7})),
               {1, 1, 3, std::vector<uint8_t>{9, 8, 7}});
  expect_equal(read_bytes(text_bytes("P5 2 1 65535\n", {1, 2, 255, 254})),
               {1, 2, 1, std::vector<uint16_t>{258, 65534}});
  expect_equal(read_bytes(text_bytes("P5 3 1 15\n", {0, 5, 15})),
               {1, 3, 1, std::vector<uint8_t>{0, 85, 255}});
}

TEST(ImageReading, BmpFromEitherEnd) {
  const auto expect_pixels = [](uint32_t height, std::vector<uint8_t> pixels) {
    expect_equal(read_bytes(tiny_bmp(2, height)), {2, 2, 3, std::move(pixels)});
  };
  expect_pixels(2, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255});
  expect_pixels(static_cast<uint32_t>(-2), {0, 0, 255, 255, 255, 255, 255, 0, 0, 0, 255, 0});
}

TEST(ImageReading, Jpeg) {
  expect_equal(read_bytes(tiny_jpeg()), {8, 8, 1, std::vector<uint8_t>(64, 128)});
}

// `components` of 16 x 24 pixels, all of one colour, at the best quality.
Bytes encode_jpeg(const Bytes& colour, J_COLOR_SPACE space, bool progressive) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &out, &size);
  jpeg.image_width = 24;
  jpeg.image_height = 16;
  jpeg.input_components = static_cast<int>(colour.size());
  jpeg.in_color_space = space;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  Bytes row;
  for (int x = 0; x < 24; ++x) row.insert(row.end(), colour.begin(), colour.end());
  JSAMPROW rows = row.data();
  for (int y = 0; y < 16; ++y) jpeg_write_scanlines(&jpeg, &rows, 1);
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  const Bytes bytes(out, out + size);
  std::free(out);
  return bytes;
}

TEST(ImageReading, JpegInColour) {
  for (const bool progressive : {false, true}) {
    const Image image = read_bytes(encode_jpeg({200, 100, 50}, JCS_RGB, progressive));
    ASSERT_EQ(image.samples(), 16 * 24 * 3);
    const auto& pixels = std::get<std::vector<uint8_t>>(image.pixels);
    for (size_t i = 0; i < pixels.size(); ++i) {
      ASSERT_LE(std::abs(pixels[i] - std::array{200, 100, 50}[i % 3]), 2) << i;
    }
  }
  EXPECT_THAT(error_of([] {
                read_bytes(encode_jpeg({1, 2, 3, 4}, JCS_CMYK, false));
              }),
              HasSubstr("CMYK"));
}

TEST_F(ImageFiles, PngRoundTripsEveryTypeItHolds) {
  for (const Image& image : {random_image<uint8_t>(7, 5, 1), random_image<uint8_t>(7, 5, 3),
                             random_image<uint16_t>(7, 5, 1), random_image<uint16_t>(1, 300, 3)}) {
    write_png(folder_ / "a.png", image);
    expect_equal(ImageReader(folder_ / "a.png").read(), image);
    expect_equal(read_bytes(load(folder_ / "a.png")), image);
  }
  EXPECT_THAT(names(), ElementsAre("a.png"));
  EXPECT_THAT(error_of([&] { write_png(folder_ / "b.png", random_image<uint32_t>(2, 2, 1)); }),
              HasSubstr("write a TIFF"));
}

TEST_F(ImageFiles, TiffRoundTripsPagesOfEveryType) {
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
  const char* mode = "w";  // "wb" writes big-endian
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

template <class T>
Image expected_image(uint32_t height, uint32_t width, uint16_t colours, auto value) {
  std::vector<T> pixels;
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      for (uint16_t s = 0; s < colours; ++s) pixels.push_back(value(y, x, s));
    }
  }
  return {height, width, colours, std::move(pixels)};
}

TEST_F(ImageFiles, TiffInEveryLayout) {
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
                 planar, compression, tiled, mode},
                37, 45, value);
            expect_equal(ImageReader(path).read(),
                         expected_image<uint16_t>(37, 45, colours, value));
          }
        }
      }
    }
  }
}

TEST_F(ImageFiles, TiffPaletteWhiteIsZeroAndOneBit) {
  const fs::path path = folder_ / "a.tif";
  const auto index = [](uint32_t y, uint32_t x, uint32_t) { return static_cast<uint8_t>(y ^ x); };
  write_layout<uint8_t>(path, {.photometric = PHOTOMETRIC_PALETTE}, 6, 9, index);
  expect_equal(ImageReader(path).read(),
               expected_image<uint8_t>(6, 9, 3, [&](uint32_t y, uint32_t x, uint32_t s) {
                 const uint8_t i = index(y, x, 0);
                 return static_cast<uint8_t>(s == 1 ? 255 - i : i);
               }));

  write_layout<uint8_t>(path, {.photometric = PHOTOMETRIC_MINISWHITE}, 6, 9, index);
  expect_equal(ImageReader(path).read(),
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
  expect_equal(ImageReader(path).read(),
               {2, 5, 1, std::vector<uint8_t>{255, 0, 255, 255, 0, 0, 0, 0, 0, 255}});
}

TEST_F(ImageFiles, TiffWithJpegInside) {
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

TEST_F(ImageFiles, AThousandPagesInAnyOrder) {
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

// ---- bad input ---------------------------------------------------------------------------------

TEST(BadImages, AreNamedWithWhatWasFoundAndWhatIsRead) {
  EXPECT_THAT(error_of([] { read_bytes({}); }), HasSubstr("cannot read image 'test': the file is "
                                                          "empty, expected PNG"));
  EXPECT_THAT(error_of([] { read_bytes(text_bytes("GIF89a")); }), HasSubstr("found a GIF"));
  EXPECT_THAT(error_of([] { read_bytes(text_bytes("hello")); }), HasSubstr("68 65 6c 6c 6f"));
  EXPECT_THAT(error_of([] { ImageReader("/nonexistent/a.png"); }),
              HasSubstr("'/nonexistent/a.png': No such file"));
  EXPECT_THAT(error_of([] { ImageReader{fs::temp_directory_path()}; }), HasSubstr("a folder"));
}

// A decoder must refuse the size, with numbers, before it allocates.
TEST_F(ImageFiles, HugeSizesAreRefusedWithSizeAndLimit) {
  const auto expect_refused = [](Bytes bytes) {
    EXPECT_THAT(error_of([&] { read_bytes(std::move(bytes)); }),
                AllOf(HasSubstr("100000 x 100000"), HasSubstr("limit of 1073741824 samples")));
  };
  expect_refused(text_bytes("P5 100000 100000 255\n", {1, 2, 3}));
  expect_refused(tiny_bmp(100000, 100000));
  expect_refused(tiny_bmp(100000, static_cast<uint32_t>(-100000)));

  TIFF* file = TIFFOpen((folder_ / "a.tif").c_str(), "w");
  TIFFSetField(file, TIFFTAG_IMAGEWIDTH, 100000);
  TIFFSetField(file, TIFFTAG_IMAGELENGTH, 100000);
  TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, 8);
  TIFFSetField(file, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, 1);
  Bytes row(100000);
  ASSERT_EQ(TIFFWriteEncodedStrip(file, 0, row.data(), 100000), 100000);
  TIFFClose(file);
  expect_refused(load(folder_ / "a.tif"));

  // A PNG's signature, its header chunk with checksum, and an empty data chunk.
  expect_refused({0x89, 0x50, 0x4e, 0x47, 0xd,  0xa,  0x1a, 0xa,  0,    0, 0,    0xd,
                  0x49, 0x48, 0x44, 0x52, 0,    1,    0x86, 0xa0, 0,    1, 0x86, 0xa0,
                  8,    0,    0,    0,    0,    0x8d, 0x39, 0x54, 0x14, 0, 0,    0,
                  0,    0x49, 0x44, 0x41, 0x54, 0x35, 0xaf, 6,    0x1e});

  EXPECT_THAT(error_of([] { read_bytes(tiny_jpeg(), 63); }), HasSubstr("limit of 63 samples"));
  EXPECT_THAT(error_of([] { read_bytes(tiny_jpeg(0x7f, 0x7f)); }), HasSubstr("cannot hold"));
  EXPECT_THAT(error_of([] { read_bytes(tiny_bmp(0, 2)); }), HasSubstr("sizes above 0"));
  EXPECT_THAT(error_of([] { read_bytes(text_bytes("P5 99999999999999999999 1 255\n", {1})); }),
              HasSubstr("cannot read image"));
  EXPECT_THAT(error_of([] { read_bytes(text_bytes("P5 1 1 70000\n", {1})); }),
              HasSubstr("maximum 70000"));
}

// Every shorter beginning of a file is an Error, or the same image (trailers may be missing).
void expect_truncation_is_noticed(const Bytes& bytes) {
  std::vector<Image> pages;
  ImageReader whole(bytes, "whole");
  for (int64_t page = 0; page < whole.page_count(); ++page) pages.push_back(whole.read(page));
  size_t errors = 0;
  for (size_t size = 0; size < bytes.size(); ++size) {
    SCOPED_TRACE(fmt::format("{} of {} bytes", size, bytes.size()));
    try {
      ImageReader reader(Bytes(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)), "cut");
      EXPECT_EQ(reader.page_count(), whole.page_count());
      for (int64_t page = 0; page < reader.page_count(); ++page) {
        expect_equal(reader.read(page), pages[static_cast<size_t>(page)]);
      }
    } catch (const Error& error) {
      ++errors;
      EXPECT_THAT(error.what(), HasSubstr("cannot read image 'cut'"));
    }
  }
  EXPECT_GE(errors + 8, bytes.size());  // no format has a longer trailer
}

TEST_F(ImageFiles, TruncationAtEveryByteIsNoticed) {
  expect_truncation_is_noticed(text_bytes("P6 2 1 255\n", {1, 2, 3, 4, 5, 6}));
  expect_truncation_is_noticed(tiny_bmp());
  expect_truncation_is_noticed(tiny_jpeg());
  expect_truncation_is_noticed(encode_jpeg({200, 100, 50}, JCS_RGB, false));
  expect_truncation_is_noticed(encode_jpeg({200, 100, 50}, JCS_RGB, true));
  write_png(folder_ / "a.png", random_image<uint16_t>(6, 5, 3));
  expect_truncation_is_noticed(load(folder_ / "a.png"));
  TiffWriter writer(folder_ / "a.tif");
  writer.append(random_image<uint8_t>(6, 5, 3));
  writer.append(random_image<uint16_t>(4, 4, 1));
  writer.commit();
  expect_truncation_is_noticed(load(folder_ / "a.tif"));
}

TEST_F(ImageFiles, DamageAtEveryByteNeverCrashes) {
  write_png(folder_ / "a.png", random_image<uint8_t>(6, 5, 3));
  TiffWriter writer(folder_ / "a.tif");
  writer.append(random_image<uint16_t>(6, 5, 1));
  writer.commit();
  for (const Bytes& whole :
       {load(folder_ / "a.png"), load(folder_ / "a.tif"), tiny_bmp(), tiny_jpeg()}) {
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const uint8_t value : {0, 1, 0x7f, 0x80, 0xff}) {
        Bytes bytes = whole;
        bytes[i] = value;
        error_of([&] { read_bytes(bytes, 1 << 20); });
      }
    }
  }
}

TEST_F(ImageFiles, APngWithOneFlippedBitInItsPixelsIsRefused) {
  write_png(folder_ / "a.png", random_image<uint8_t>(6, 5, 3));
  Bytes bytes = load(folder_ / "a.png");
  bytes[bytes.size() - 30] ^= 4;
  EXPECT_THAT(error_of([&] { read_bytes(bytes); }), HasSubstr("damaged PNG"));
}

// ---- writing -----------------------------------------------------------------------------------

TEST_F(ImageFiles, AnUncommittedFileLeavesTheOldOne) {
  write_text(folder_ / "a.txt", "old");
  {
    AtomicFile file(folder_ / "a.txt");
    file.stream() << "new, but never finished";
    EXPECT_EQ(names().size(), 2u);
  }
  EXPECT_THAT(names(), ElementsAre("a.txt"));
  EXPECT_EQ(load(folder_ / "a.txt"), text_bytes("old"));
  write_text(folder_ / "a.txt", "new");
  EXPECT_EQ(load(folder_ / "a.txt"), text_bytes("new"));
}

TEST_F(ImageFiles, ASymbolicLinkKeepsPointingToTheNewFile) {
  write_text(folder_ / "a.txt", "old");
  fs::create_symlink(folder_ / "a.txt", folder_ / "link.txt");
  write_text(folder_ / "link.txt", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link.txt"));
  EXPECT_EQ(load(folder_ / "a.txt"), text_bytes("new"));
}

TEST_F(ImageFiles, UnwritableOutputsAreNamed) {
  EXPECT_THAT(error_of([&] { write_text(folder_ / "none" / "a.txt", "x"); }),
              AllOf(HasSubstr("none/a.txt"), HasSubstr("No such file or directory")));
  EXPECT_THAT(error_of([&] { write_text(folder_, "x"); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([&] { TiffWriter("/proc/a.tif"); }), HasSubstr("'/proc/a.tif'"));
}

TEST_F(ImageFiles, AFolderWithoutPermissionIsNamed) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write to a folder without permission";
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THAT(error_of([&] { write_text(folder_ / "a.txt", "x"); }),
              HasSubstr("Permission denied"));
  fs::permissions(folder_, fs::perms::owner_all);
}

TEST(DiskFull, IsAnErrorOfEveryWriter) {
  if (!fs::is_character_file("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  const Image image = random_image<uint8_t>(300, 300, 3);
  EXPECT_THAT(error_of([] { write_text("/dev/full", "x"); }),
              AllOf(HasSubstr("'/dev/full'"), HasSubstr("No space left")));
  EXPECT_THAT(error_of([&] { write_png("/dev/full", image); }), HasSubstr("No space left"));
  EXPECT_THAT(error_of([&] {
                NpyWriter writer("/dev/full", {1000000});
                writer.append(std::vector<float>(1000000));
                writer.commit();
              }),
              HasSubstr("No space left"));
  EXPECT_THAT(error_of([&] {
                TiffWriter writer("/dev/full");
                writer.append(image);
                writer.commit();
              }),
              HasSubstr("cannot write '/dev/full'"));
}

// A real file system that is full: nothing is left behind on it.
TEST_F(ImageFiles, AFullFileSystemKeepsNoTemporary) {
  const std::string mount =
      fmt::format("mount -t tmpfs -o size=64k none {} 2>/dev/null", folder_.string());
  if (::geteuid() != 0 || std::system(mount.c_str()) != 0) {
    GTEST_SKIP() << "only root may mount a small file system";
  }
  const Image image = random_image<uint16_t>(300, 300, 1);
  const std::string png = error_of([&] { write_png(folder_ / "a.png", image); });
  const std::string tiff = error_of([&] {
    TiffWriter writer(folder_ / "a.tif");
    writer.append(image);
    writer.commit();
  });
  const std::vector<std::string> left = names();
  ASSERT_EQ(std::system(fmt::format("umount {}", folder_.string()).c_str()), 0);
  EXPECT_THAT(png, HasSubstr("No space left"));
  EXPECT_THAT(tiff, HasSubstr("No space left"));
  EXPECT_THAT(left, IsEmpty());
}

TEST_F(ImageFiles, NpyIsAnArrayOfFloatsInCOrder) {
  NpyWriter writer(folder_ / "a.npy", {1, 2, 3});
  writer.append(std::vector<float>{1, 2, 3, 4});
  EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("2 values fewer"));
  writer.append(std::vector<float>{5, 6.5f});
  writer.commit();
  const Bytes bytes = load(folder_ / "a.npy");
  ASSERT_EQ(bytes.size(), 128u + 24);
  const std::string header(bytes.begin(), bytes.begin() + 128);
  EXPECT_EQ(header.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(static_cast<uint8_t>(header[8]), 118);
  EXPECT_THAT(header, HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (1,2,3,)}"));
  EXPECT_EQ(header.back(), '\n');
  float last = 0;
  std::memcpy(&last, bytes.data() + 128 + 20, 4);
  EXPECT_EQ(last, 6.5f);
}

// ---- normalisation -----------------------------------------------------------------------------

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
    for (const Window& window :
         {Window{0, 0, height, width}, Window{-3, -20, 30, 4}, Window{1, 2, 1, 9},
          Window{-9, -9, -4, -2}, Window{20, 30, 22, 41}, Window{0, 1, 1, 3}}) {
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

// ---- masks and overlays ------------------------------------------------------------------------

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

// ---- real files --------------------------------------------------------------------------------

fs::path shared_data() {
  return test::shared_dir() / "data";
}

fs::path first_file(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return *std::min_element(files.begin(), files.end());
}

TEST(RealImages, AreReadInTheirOwnTypeAndSize) {
  if (!fs::exists(shared_data())) GTEST_SKIP() << "no real data at " << shared_data();
  const auto expect_type = [](const fs::path& folder, int64_t height, int64_t width,
                              int64_t channels, std::string_view type) {
    const Image image = ImageReader(first_file(folder)).read();
    EXPECT_EQ(image.height, height) << folder;
    EXPECT_EQ(image.width, width) << folder;
    EXPECT_EQ(image.channels, channels) << folder;
    EXPECT_EQ(pixel_type_name(image), type) << folder;
  };
  expect_type(shared_data() / "isbi2012/train/image", 512, 512, 1, "8-bit");
  expect_type(shared_data() / "dsb2018/fluo256/train/label", 256, 256, 1, "16-bit");
  expect_type(shared_data() / "drive/training/images", 584, 565, 3, "8-bit");
}

}  // namespace
}  // namespace tessera
