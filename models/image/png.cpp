#include "models/image/png.h"

#include <png.h>

#include <algorithm>
#include <bit>
#include <csetjmp>
#include <cstring>

#include "engine/files/atomic_file.h"
#include "kernels/error.h"

// libpng reports errors by longjmp, which must not cross a C++ object with a destructor. So every
// function below that calls setjmp keeps its objects in a struct of its caller.
namespace tessera {
namespace {

// The text of libpng's error, then back to the setjmp.
[[noreturn]] void on_error(png_structp png, png_const_charp text) {
  auto* message = static_cast<std::string*>(png_get_error_ptr(png));
  *message = text;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

struct PngDecoder {
  explicit PngDecoder(std::span<const uint8_t> bytes) : rest(bytes) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message, on_error, on_warning);
    info = png != nullptr ? png_create_info_struct(png) : nullptr;
    require(info != nullptr, "out of memory for the PNG decoder");
    png_set_read_fn(png, this, read);
  }
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  static void read(png_structp png, png_bytep to, size_t count) {
    auto* self = static_cast<PngDecoder*>(png_get_io_ptr(png));
    if (count > self->rest.size()) png_error(png, "the file is truncated");
    std::memcpy(to, self->rest.data(), count);
    self->rest = self->rest.subspan(count);
  }

  std::span<const uint8_t> rest;
  std::string message;
  png_structp png = nullptr;
  png_infop info = nullptr;
};

// Reads up to the first pixel. libpng's own limit of a million pixels along a side makes way for
// the one on samples.
bool read_header(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_read_info(png, info);
  return true;
}

// Asks for grey or RGB without alpha in the machine's byte order, or for a palette's indices; takes
// memory for a row.
bool start(png_structp png, png_infop info, bool as_indices) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  if (as_indices) {
    png_set_packing(png);
  } else {
    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
  }
  png_set_strip_alpha(png);
  if (std::endian::native == std::endian::little) png_set_swap(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool read_row(png_structp png, png_bytep row) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_row(png, row, nullptr);
  return true;
}

bool read_end(png_structp png) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_end(png, nullptr);
  return true;
}

template <class T>
std::vector<T> read_pixels(PngDecoder& decoder, const Image& image) {
  const auto row = static_cast<size_t>(image.width * image.channels);
  require(png_get_rowbytes(decoder.png, decoder.info) == row * sizeof(T),
          "damaged PNG: rows of {} bytes, expected {}", png_get_rowbytes(decoder.png, decoder.info),
          row * sizeof(T));
  const bool interlaced = png_get_interlace_type(decoder.png, decoder.info) != PNG_INTERLACE_NONE;

  // Reserved memory is not touched: a header that promises more than the file holds costs nothing.
  std::vector<T> pixels;
  pixels.reserve(static_cast<size_t>(image.samples()));
  if (interlaced) pixels.resize(static_cast<size_t>(image.samples()));
  const int passes = interlaced ? PNG_INTERLACE_ADAM7_PASSES : 1;
  for (int pass = 0; pass < passes; ++pass) {
    for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
      pixels.resize(std::max(pixels.size(), (y + 1) * row));
      require(read_row(decoder.png, reinterpret_cast<png_bytep>(pixels.data() + y * row)),
              "damaged PNG: {}", decoder.message);
    }
  }
  require(read_end(decoder.png), "damaged PNG: {}", decoder.message);
  return pixels;
}

struct Encoder {
  Encoder() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &message, on_error, on_warning);
    info = png != nullptr ? png_create_info_struct(png) : nullptr;
    require(info != nullptr, "out of memory for the PNG encoder");
  }
  ~Encoder() { png_destroy_write_struct(&png, &info); }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  static void write(png_structp png, png_bytep from, size_t count) {
    auto* out = static_cast<std::ostream*>(png_get_io_ptr(png));
    out->write(reinterpret_cast<const char*>(from), static_cast<std::streamsize>(count));
    if (!*out) png_error(png, "the write failed");
  }
  static void flush(png_structp) {}

  std::string message;
  png_structp png = nullptr;
  png_infop info = nullptr;
};

bool write_all(png_structp png, png_infop info, const Image& image, const uint8_t* pixels,
               int depth) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width),
               static_cast<png_uint_32>(image.height), depth,
               image.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  if (std::endian::native == std::endian::little) png_set_swap(png);
  for (int64_t y = 0; y < image.height; ++y) {
    png_write_row(png, pixels + y * image.width * image.channels * (depth / 8));
  }
  png_write_end(png, info);
  return true;
}

// From the first pixel on, whose header has been read.
Image decode(PngDecoder& decoder, int64_t max_samples, bool as_indices) {
  Image image;
  image.height = png_get_image_height(decoder.png, decoder.info);
  image.width = png_get_image_width(decoder.png, decoder.info);
  require_readable_size(image.height, image.width, 1, max_samples);
  require(start(decoder.png, decoder.info, as_indices), "damaged PNG: {}", decoder.message);
  image.channels = png_get_channels(decoder.png, decoder.info);
  require_readable_size(image.height, image.width, image.channels, max_samples);
  if (png_get_bit_depth(decoder.png, decoder.info) == 16) {
    image.pixels = read_pixels<uint16_t>(decoder, image);
  } else {
    image.pixels = read_pixels<uint8_t>(decoder, image);
  }
  return image;
}

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, int64_t max_samples) {
  PngDecoder decoder(bytes);
  require(read_header(decoder.png, decoder.info), "damaged PNG: {}", decoder.message);
  return decode(decoder, max_samples, false);
}

std::optional<Image> decode_png_indices(std::span<const uint8_t> bytes, int64_t max_samples) {
  PngDecoder decoder(bytes);
  require(read_header(decoder.png, decoder.info), "damaged PNG: {}", decoder.message);
  if (png_get_color_type(decoder.png, decoder.info) != PNG_COLOR_TYPE_PALETTE) return std::nullopt;
  return decode(decoder, max_samples, true);
}

void write_png(const std::filesystem::path& path, const Image& image) {
  AtomicFile file(path);
  encode_png(file, image);
  file.commit();
}

void encode_png(AtomicFile& file, const Image& image) {
  const auto* bytes = std::get_if<std::vector<uint8_t>>(&image.pixels);
  const auto* words = std::get_if<std::vector<uint16_t>>(&image.pixels);
  require(bytes != nullptr || words != nullptr,
          "cannot write '{}': PNG holds 8 and 16 bit, the image is {}; write a TIFF",
          file.target().string(), pixel_type_name(image));
  const auto* pixels =
      bytes != nullptr ? bytes->data() : reinterpret_cast<const uint8_t*>(words->data());
  Encoder encoder;
  png_set_write_fn(encoder.png, &file.stream(), Encoder::write, Encoder::flush);
  if (!write_all(encoder.png, encoder.info, image, pixels, bytes != nullptr ? 8 : 16)) {
    file.fail_write(encoder.message);
  }
}

}  // namespace tessera
