#include "models/image/bmp.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>

#include "kernels/error.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_BMP
#include <stb/stb_image.h>

namespace tessera {
namespace {

using Bytes = std::span<const uint8_t>;

int64_t little_endian(Bytes bytes, size_t offset, int size) {
  require(offset + static_cast<size_t>(size) <= bytes.size(), "truncated BMP: {} bytes",
          bytes.size());
  uint32_t value = 0;
  for (int i = 0; i < size; ++i) value |= uint32_t{bytes[offset + static_cast<size_t>(i)]} << 8 * i;
  return value;
}

enum Compression {
  kNone = 0,
  kRle8 = 1,
  kRle4 = 2,
  kBitFields = 3,
  kJpeg = 4,
  kPng = 5,
  kAlphaBitFields = 6
};

struct Header {
  int64_t size = 0;  // of the header after the file's own, in bytes
  int64_t width = 0;
  int64_t height = 0;
  bool from_top = false;
  int64_t bits = 0;
  int64_t compression = kNone;
  int64_t colours = 0;  // of the palette; 0: all that the bits tell apart
  int64_t pixels = 0;   // where they begin
};

Header read_header(Bytes bytes) {
  constexpr int64_t kOldHeaderSize = 12;
  Header header;
  header.pixels = little_endian(bytes, 10, 4);
  header.size = little_endian(bytes, 14, 4);
  if (header.size == kOldHeaderSize) {
    header.width = little_endian(bytes, 18, 2);
    header.height = little_endian(bytes, 20, 2);
    header.bits = little_endian(bytes, 24, 2);
    return header;
  }
  header.width = static_cast<int32_t>(little_endian(bytes, 18, 4));
  const int64_t rows = static_cast<int32_t>(little_endian(bytes, 22, 4));
  header.height = std::abs(rows);
  header.from_top = rows < 0;
  header.bits = little_endian(bytes, 28, 2);
  header.compression = little_endian(bytes, 30, 4);
  header.colours = little_endian(bytes, 46, 4);
  return header;
}

// Runs of equal palette indices, and of listed ones, row by row from the bottom. What no run covers
// has index 0.
std::vector<uint8_t> decode_runs(Bytes bytes, const Header& header) {
  const bool nibbles = header.compression == kRle4;
  std::vector<uint8_t> indices(static_cast<size_t>(header.width * header.height));
  auto at = static_cast<size_t>(header.pixels);
  int64_t x = 0, y = 0;  // y from the bottom
  const auto next = [&]() -> int64_t {
    require(at < bytes.size(), "truncated BMP: it ends at row {} of {}, counted from the bottom", y,
            header.height);
    return bytes[at++];
  };
  const auto put = [&](int64_t index) {
    require(x < header.width && y < header.height,
            "damaged BMP: a run leaves the {} x {} pixels (width x height)", header.width,
            header.height);
    const int64_t row = header.from_top ? y : header.height - 1 - y;
    indices[static_cast<size_t>(row * header.width + x++)] = static_cast<uint8_t>(index);
  };
  const auto part = [&](int64_t pair, int64_t i) {
    return !nibbles ? pair : i % 2 == 0 ? pair >> 4 : pair & 15;
  };
  while (true) {
    const int64_t count = next();
    const int64_t value = next();
    if (count > 0) {
      for (int64_t i = 0; i < count; ++i) put(part(value, i));
    } else if (value == 0) {  // end of the row
      x = 0;
      ++y;
    } else if (value == 1) {  // end of the picture
      return indices;
    } else if (value == 2) {  // on to the right and upwards
      x += next();
      y += next();
    } else {  // as many listed indices, padded to 16 bits
      const size_t begin = at;
      int64_t pair = 0;
      for (int64_t i = 0; i < value; ++i) {
        if (!nibbles || i % 2 == 0) pair = next();
        put(part(pair, i));
      }
      if ((at - begin) % 2 != 0) next();
    }
  }
}

Image decode_run_lengths(Bytes bytes, const Header& header) {
  const int64_t bits = header.compression == kRle8 ? 8 : 4;
  require(header.bits == bits, "damaged BMP: run-length encoded, {} bits per pixel, expected {}",
          header.bits, bits);
  const int64_t most = int64_t{1} << bits;
  const int64_t colours = header.colours == 0 ? most : std::min(header.colours, most);
  constexpr int64_t kFileHeaderSize = 14, kEntrySize = 4;  // blue, green, red, unused
  const int64_t begin = kFileHeaderSize + header.size;
  require(begin + colours * kEntrySize <= static_cast<int64_t>(bytes.size()),
          "truncated BMP: {} bytes, no palette of {} colours", bytes.size(), colours);
  const Bytes palette = bytes.subspan(static_cast<size_t>(begin));

  std::vector<uint8_t> pixels;
  pixels.reserve(static_cast<size_t>(header.width * header.height * 3));
  for (const uint8_t index : decode_runs(bytes, header)) {
    require(index < colours, "damaged BMP: index {} of a palette of {} colours", index, colours);
    const Bytes entry = palette.subspan(index * size_t{kEntrySize}, kEntrySize);
    pixels.insert(pixels.end(), {entry[2], entry[1], entry[0]});
  }
  return {header.height, header.width, 3, std::move(pixels)};
}

}  // namespace

Image decode_bmp(Bytes bytes, int64_t max_samples) {
  const Header header = read_header(bytes);
  require_readable_size(header.height, header.width, 3, max_samples);
  require(header.compression != kJpeg && header.compression != kPng,
          "BMP with a {} inside; save it as PNG", header.compression == kJpeg ? "JPEG" : "PNG");
  if (header.compression == kRle8 || header.compression == kRle4)
    return decode_run_lengths(bytes, header);
  require(header.compression == kNone || header.compression == kBitFields ||
              header.compression == kAlphaBitFields,
          "BMP of the unknown compression {}; save it as PNG", header.compression);

  const int64_t row_bytes = (header.width * header.bits + 31) / 32 * 4;
  const int64_t expected = header.pixels + row_bytes * header.height;
  require(expected <= static_cast<int64_t>(bytes.size()),
          "truncated BMP: {} bytes, expected {} for {} x {} pixels (width x height)", bytes.size(),
          expected, header.width, header.height);
  require(bytes.size() <= std::numeric_limits<int>::max(),
          "the BMP has {} bytes, above the limit of 2 GiB; save it as TIFF", bytes.size());
  const auto size = static_cast<int>(bytes.size());

  int found_width = 0, found_height = 0, found_channels = 0;
  const bool is_bmp =
      stbi_info_from_memory(bytes.data(), size, &found_width, &found_height, &found_channels) != 0;
  require(is_bmp, "damaged BMP, or of a kind that is not read: {}; save it as PNG",
          stbi_failure_reason());
  const int channels = found_channels >= 3 ? 3 : 1;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), size, &found_width, &found_height, &found_channels,
                            channels),
      stbi_image_free);
  require(pixels != nullptr, "damaged BMP, or of a kind that is not read: {}; save it as PNG",
          stbi_failure_reason());
  Image image{header.height, header.width, channels, {}};
  require(found_height == header.height && found_width == header.width,
          "damaged BMP: {} x {} pixels, then {} x {}", header.width, header.height, found_width,
          found_height);
  image.pixels = std::vector<uint8_t>(pixels.get(), pixels.get() + image.samples());
  return image;
}

}  // namespace tessera
