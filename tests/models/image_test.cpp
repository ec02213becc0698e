// Image files in and out; TIFF's own cases: tiff_test.cpp.
#include "models/image/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <tiffio.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include <jpeglib.h>  // needs <cstdio> before it

#include "engine/files/atomic_file.h"
#include "engine/files/numpy_writer.h"
#include "kernels/error.h"
#include "models/image/image_io.h"
#include "models/image/png.h"
#include "models/image/tiff.h"
#include "tests/support/image_files.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::expect_equal;
using test::ImageFiles;
using test::load;
using test::random_image;
using test::read_bytes;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Bytes = std::vector<uint8_t>;

void append(Bytes& bytes, uint32_t value, int size) {
  for (int i = 0; i < size; ++i, value >>= 8) bytes.push_back(static_cast<uint8_t>(value));
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

// 5 x 3 with a palette of four colours, (1, 2, 3) to (4, 5, 6): what the runs say.
Bytes run_length_bmp(uint32_t bits, const Bytes& runs) {
  Bytes bytes = {'B', 'M'};
  append(bytes, 0, 8);
  append(bytes, 14 + 40 + 4 * 4, 4);
  append(bytes, 40, 4);
  append(bytes, 5, 4);
  append(bytes, 3, 4);
  append(bytes, 1, 2);
  append(bytes, bits, 2);
  append(bytes, bits == 8 ? 1 : 2, 4);
  append(bytes, 0, 12);
  append(bytes, 4, 4);
  append(bytes, 0, 4);
  for (uint8_t i = 1; i <= 4; ++i) {  // blue, green, red
    const Bytes entry = {static_cast<uint8_t>(i + 2), static_cast<uint8_t>(i + 1), i, 0};
    bytes.insert(bytes.end(), entry.begin(), entry.end());
  }
  bytes.insert(bytes.end(), runs.begin(), runs.end());
  return bytes;
}

// Colours of the palette, in rows from the top.
Image coloured(const std::vector<int>& indices) {
  std::vector<uint8_t> pixels;
  for (const int i : indices) {
    for (const int c : {1, 2, 3}) pixels.push_back(static_cast<uint8_t>(i + c));
  }
  return {3, 5, 3, pixels};
}

TEST(ImageReading, RunLengthBmp) {
  const std::vector<int> rows = {0, 0, 0, 0, 2, 3, 2, 1, 0, 0, 1, 1, 1, 3, 3};
  // A run, its row's end; a listed row of odd length with padding; a move to the right; the end.
  const Bytes eight = {3, 1, 2, 3, 0, 0, 0, 3, 3, 2, 1, 0, 0, 0, 0, 2, 4, 0, 1, 2, 0, 1};
  expect_equal(read_bytes(run_length_bmp(8, eight)), coloured(rows));
  const Bytes four = {3, 0x11, 2, 0x33, 0, 0, 0, 3, 0x32, 0x10, 0, 0, 0, 2, 4, 0, 1, 0x20, 0, 1};
  expect_equal(read_bytes(run_length_bmp(4, four)), coloured(rows));
  expect_equal(read_bytes(run_length_bmp(4, {5, 0x12, 0, 1})),
               coloured({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 2, 1}));

  const auto error = [](const Bytes& runs) {
    return error_of([&] { read_bytes(run_length_bmp(8, runs)); });
  };
  EXPECT_THAT(error({6, 1, 0, 1}), HasSubstr("a run leaves the 5 x 3 pixels"));
  EXPECT_THAT(error({0, 2, 0, 3, 1, 1, 0, 1}), HasSubstr("a run leaves"));
  EXPECT_THAT(error({1, 4, 0, 1}), HasSubstr("index 4 of a palette of 4 colours"));
  EXPECT_THAT(error({5, 1, 0, 0}), HasSubstr("it ends at row 1 of 3"));
  EXPECT_THAT(error({0, 5, 1, 1}), HasSubstr("truncated BMP"));
}

TEST(ImageReading, NamesOfEveryKindThatIsRead) {
  for (const char* name : {"a.png", "a.jpg", "a.jpeg", "a.jpe", "a.jfif", "a.bmp", "a.dib", "a.pgm",
                           "a.tif", "a.TIFF", "a.btf", "a.tf8", "a.ome.tif", "a.JFIF"}) {
    EXPECT_TRUE(is_image_name(name)) << name;
  }
  for (const char* name : {"a.txt", "a.gif", "a", ".png", "a.tif.txt"})
    EXPECT_FALSE(is_image_name(name)) << name;
}

// libpng alone stops at a million.
TEST_F(ImageFiles, APngWiderThanAMillion) {
  const Image image = random_image<uint8_t>(2, 1200000, 1);
  write_png(folder_ / "a.png", image);
  expect_equal(ImageReader(folder_ / "a.png").read(), image);
  EXPECT_THAT(error_of([&] { ImageReader(folder_ / "a.png", 2399999).read(); }),
              HasSubstr("1200000 x 2"));
}

// What the file itself calls alpha is dropped; palettes and grey keep their colours.
TEST_F(ImageFiles, PngWithAlpha) {
  const Image grey = random_image<uint8_t>(4, 6, 1), rgb = random_image<uint16_t>(4, 6, 3);
  for (const Image& image : {grey, rgb}) {
    const bool is_grey = image.channels == 1;
    std::FILE* file = std::fopen((folder_ / "a.png").c_str(), "wb");
    ASSERT_NE(file, nullptr);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_set_IHDR(png, info, 6, 4, is_grey ? 8 : 16,
                 is_grey ? PNG_COLOR_TYPE_GRAY_ALPHA : PNG_COLOR_TYPE_RGB_ALPHA,
                 PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    if (!is_grey) png_set_swap(png);
    const auto with_alpha = std::visit(
        [&](const auto& pixels) {
          Bytes bytes;
          for (size_t i = 0; i < pixels.size(); ++i) {
            const auto* from = reinterpret_cast<const uint8_t*>(&pixels[i]);
            bytes.insert(bytes.end(), from, from + sizeof(pixels[0]));
            const bool last = (i + 1) % static_cast<size_t>(image.channels) == 0;
            if (last) bytes.insert(bytes.end(), sizeof(pixels[0]), 77);
          }
          return bytes;
        },
        image.pixels);
    std::vector<png_bytep> rows;
    for (size_t y = 0; y < 4; ++y)
      rows.push_back(const_cast<png_bytep>(with_alpha.data() + y * with_alpha.size() / 4));
    png_write_image(png, rows.data());
    png_write_end(png, nullptr);
    png_destroy_write_struct(&png, &info);
    std::fclose(file);
    expect_equal(ImageReader(folder_ / "a.png").read(), image);
  }
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

// ---- bad input ---------------------------------------------------------------------------------

TEST(BadImages, AreNamedWithWhatWasFoundAndWhatIsRead) {
  EXPECT_THAT(error_of([] { read_bytes({}); }), HasSubstr("cannot read image 'test': the file is "
                                                          "empty, expected PNG"));
  EXPECT_THAT(error_of([] { read_bytes(text_bytes("GIF89a")); }),
              HasSubstr("found a GIF, which is not read; save it as PNG or TIFF"));
  const std::pair<const char*, const char*> kStrangers[] = {
      {"RIFF....WEBPVP8 ", "a WebP"},
      {"....ftypheic", "a HEIC"},
      {"....ftypavif", "an AVIF"},
      {"....ftypisom", "film"},
      {"\xff\x4f\xff\x51", "a JPEG 2000"},
      {"<svg xmlns=", "an SVG, which is not read; it holds drawings, not pixels; export it as PNG"},
      {"%PDF-1.7", "a PDF"},
      {"\x93NUMPY", "a NumPy array, which is not read; write its array as TIFF"},
      {"P2 1 1 255 7", "a text PNM"},
      {"version https://git-lfs.github.com/spec/v1", "git lfs pull"},
  };
  for (const auto& stranger : kStrangers) {
    EXPECT_THAT(error_of([&] { read_bytes(text_bytes(stranger.first)); }),
                HasSubstr(stranger.second));
  }
  Bytes dicom(128);
  dicom.insert(dicom.end(), {'D', 'I', 'C', 'M'});
  EXPECT_THAT(error_of([&] { read_bytes(dicom); }), HasSubstr("a DICOM"));
  EXPECT_THAT(error_of([] {
                read_bytes(text_bytes({"\0\0\0\x0cjP  ", 8}));
              }),
              HasSubstr("a JPEG 2000"));
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
        try {
          read_bytes(bytes, 1 << 20);
        } catch (const Error&) {  // or it reads on: many a byte is a pixel
        }
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
                const std::vector<std::int64_t> shape{1000000};
                const std::vector<float> values(1000000);
                NumpyWriter writer("/dev/full", DType::kF32, shape);
                writer.append(std::as_bytes(std::span(values)));
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
  const std::vector<std::int64_t> shape{1, 2, 3};
  const std::vector<float> values{1, 2, 3, 4, 5, 6.5f};
  NumpyWriter writer(folder_ / "a.npy", DType::kF32, shape);
  writer.append(std::as_bytes(std::span(values).first(4)));
  EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("8 bytes fewer"));
  writer.append(std::as_bytes(std::span(values).last(2)));
  writer.commit();
  const Bytes bytes = load(folder_ / "a.npy");
  ASSERT_EQ(bytes.size(), 128u + 24);
  const std::string header(bytes.begin(), bytes.begin() + 128);
  EXPECT_EQ(header.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(static_cast<uint8_t>(header[8]), 118);
  EXPECT_THAT(header, HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }"));
  EXPECT_EQ(header.back(), '\n');
  float last = 0;
  std::memcpy(&last, bytes.data() + 128 + 20, 4);
  EXPECT_EQ(last, 6.5f);
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
