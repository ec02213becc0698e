#include "models/image_io.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <string_view>

#include "kernels/error.h"
#include "models/jpeg.h"
#include "models/png.h"
#include "models/tiff.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_BMP
#include <stb/stb_image.h>

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const uint8_t>;

bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

// What a user may have passed by mistake, for the error's text.
std::string describe_unknown(Bytes bytes) {
  constexpr std::pair<std::string_view, const char*> kKnown[] = {
      {"GIF8", "a GIF"},           {"%PDF", "a PDF"},       {"RIFF", "a WebP or AVI"},
      {"\x89HDF", "an HDF5 file"}, {"PK\x03\x04", "a ZIP"}, {"\x1f\x8b", "a gzip file"},
      {"P1", "a text PNM"},        {"P2", "a text PNM"},    {"P3", "a text PNM"},
      {"P4", "a 1-bit PNM"}};
  for (const auto& [magic, name] : kKnown) {
    if (starts_with(bytes, magic)) return name;
  }
  std::string hex;
  for (const uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8))) {
    hex += fmt::format(" {:02x}", byte);
  }
  return "a file that begins with the bytes" + hex;
}

int64_t little_endian(Bytes bytes, size_t offset, int size) {
  require(offset + static_cast<size_t>(size) <= bytes.size(), "truncated BMP: {} bytes",
          bytes.size());
  uint32_t value = 0;
  for (int i = 0; i < size; ++i) value |= uint32_t{bytes[offset + static_cast<size_t>(i)]} << 8 * i;
  return value;
}

// stb_image would fill the missing rows of a truncated BMP with black, so its size is checked here.
Image decode_bmp(Bytes bytes, int64_t max_samples) {
  constexpr int64_t kOldHeaderSize = 12;
  const bool is_old = little_endian(bytes, 14, 4) == kOldHeaderSize;
  const int64_t width =
      is_old ? little_endian(bytes, 18, 2) : static_cast<int32_t>(little_endian(bytes, 18, 4));
  const int64_t rows =
      is_old ? little_endian(bytes, 20, 2) : static_cast<int32_t>(little_endian(bytes, 22, 4));
  const int64_t height = std::abs(rows);  // negative: from top to bottom
  const int64_t bits = little_endian(bytes, is_old ? 24 : 28, 2);
  require_readable_size(height, width, bits > 8 ? 3 : 1, max_samples);
  const int64_t row_bytes = (width * bits + 31) / 32 * 4;
  const int64_t expected = little_endian(bytes, 10, 4) + row_bytes * height;
  require(expected <= static_cast<int64_t>(bytes.size()),
          "truncated BMP: {} bytes, expected {} for {} x {} pixels (width x height)", bytes.size(),
          expected, width, height);
  require(bytes.size() <= std::numeric_limits<int>::max(),
          "the BMP has {} bytes, above the limit of 2 GiB; save it as TIFF", bytes.size());
  const auto size = static_cast<int>(bytes.size());

  int found_width = 0, found_height = 0, found_channels = 0;
  const bool is_bmp =
      stbi_info_from_memory(bytes.data(), size, &found_width, &found_height, &found_channels) != 0;
  require(is_bmp, "damaged BMP, or of a kind that is not read: {}", stbi_failure_reason());
  const int channels = found_channels >= 3 ? 3 : 1;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes.data(), size, &found_width, &found_height, &found_channels,
                            channels),
      stbi_image_free);
  require(pixels != nullptr, "damaged BMP, or of a kind that is not read: {}",
          stbi_failure_reason());
  Image image{height, width, channels, {}};
  require(found_height == height && found_width == width,
          "damaged BMP: {} x {} pixels, then {} x {}", width, height, found_width, found_height);
  image.pixels = std::vector<uint8_t>(pixels.get(), pixels.get() + image.samples());
  return image;
}

// A binary PNM: "P5" (grey) or "P6" (RGB), width, height, maximum, one white space, samples, the
// latter in big-endian 16 bit for a maximum above 255. Read here because stb_image checks neither
// the size nor the maximum.
class PnmDecoder {
 public:
  explicit PnmDecoder(Bytes bytes) : bytes_(bytes) {}

  Image decode(int64_t max_samples) {
    Image image;
    image.channels = bytes_[1] == '6' ? 3 : 1;
    at_ = 2;
    image.width = number("width");
    image.height = number("height");
    const int64_t maximum = number("maximum");
    require(maximum >= 1 && maximum <= 65535, "damaged PNM: maximum {}, expected 1 to 65535",
            maximum);
    require(at_ < bytes_.size(), "truncated PNM: {} bytes, no pixels", bytes_.size());
    ++at_;  // the one white space
    require_readable_size(image.height, image.width, image.channels, max_samples);
    const int64_t expected = image.samples() * (maximum > 255 ? 2 : 1);
    const auto found = static_cast<int64_t>(bytes_.size() - at_);
    require(expected <= found, "truncated PNM: {} bytes of pixels, expected {}", found, expected);

    const uint8_t* from = bytes_.data() + at_;
    const auto samples = static_cast<size_t>(image.samples());
    if (maximum > 255) {
      std::vector<uint16_t> pixels(samples);
      for (size_t i = 0; i < samples; ++i) {
        pixels[i] = to_full_range<uint16_t>(256 * from[2 * i] + from[2 * i + 1], maximum);
      }
      image.pixels = std::move(pixels);
    } else {
      std::vector<uint8_t> pixels(samples);
      for (size_t i = 0; i < samples; ++i) pixels[i] = to_full_range<uint8_t>(from[i], maximum);
      image.pixels = std::move(pixels);
    }
    return image;
  }

 private:
  template <class T>
  static T to_full_range(int64_t value, int64_t maximum) {
    constexpr int64_t kWhite = std::numeric_limits<T>::max();
    return static_cast<T>((std::min(value, maximum) * kWhite + maximum / 2) / maximum);
  }

  void skip_space_and_comments() {
    while (at_ < bytes_.size()) {
      if (bytes_[at_] == '#') {
        while (at_ < bytes_.size() && bytes_[at_] != '\n') ++at_;
      } else if (std::strchr(" \t\r\n\v\f", bytes_[at_]) != nullptr && bytes_[at_] != 0) {
        ++at_;
      } else {
        return;
      }
    }
  }

  int64_t number(const char* what) {
    constexpr int64_t kTooLarge = int64_t{1} << 40;  // no size is, and times 10 it fits 64 bits
    skip_space_and_comments();
    const size_t begin = at_;
    int64_t value = 0;
    while (at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9' && value < kTooLarge) {
      value = 10 * value + (bytes_[at_++] - '0');
    }
    require(at_ > begin, "damaged or truncated PNM: no {} in its header", what);
    return value;
  }

  Bytes bytes_;
  size_t at_ = 0;
};

Image decode_pnm(Bytes bytes, int64_t max_samples) {
  return PnmDecoder(bytes).decode(max_samples);
}

std::vector<uint8_t> read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), "{}", std::strerror(errno));
  std::vector<uint8_t> bytes;
  constexpr size_t kStep = size_t{1} << 20;
  while (file) {
    const size_t size = bytes.size();
    bytes.resize(size + kStep);
    file.read(reinterpret_cast<char*>(bytes.data() + size), kStep);
    bytes.resize(size + static_cast<size_t>(file.gcount()));
  }
  require(!file.bad(), "{}", std::strerror(errno));
  return bytes;
}

// The first bytes of a regular file; nothing for a pipe, which cannot be read twice.
std::vector<uint8_t> peek(const fs::path& path) {
  if (!fs::is_regular_file(path)) return {};
  constexpr std::streamsize kMagicSize = 4;
  std::vector<uint8_t> bytes(kMagicSize);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), kMagicSize);
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

// Runs `work` and puts the file's name before what it throws.
template <class Work>
auto with_name(const std::string& name, Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    fail("cannot read image '{}': {}", name, error.what());
  } catch (const std::bad_alloc&) {
    fail("cannot read image '{}': out of memory; split the image or read it on a larger machine",
         name);
  } catch (const fs::filesystem_error& error) {
    fail("cannot read image '{}': {}", name, error.code().message());
  }
}

}  // namespace

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return std::tolower(c); });
  constexpr const char* kExtensions[] = {".png", ".jpg", ".jpeg", ".bmp", ".pnm",
                                         ".pgm", ".ppm", ".tif",  ".tiff"};
  return std::ranges::find(kExtensions, extension) != std::end(kExtensions);
}

ImageReader::ImageReader(const fs::path& path, int64_t max_samples)
    : name_(path.string()), max_samples_(max_samples) {
  with_name(name_, [&] {
    require(!fs::is_directory(path), "it is a folder, expected an image file");
    if (TiffReader::recognises(peek(path))) {
      tiff_ = std::make_unique<TiffReader>(path, max_samples);
    } else {
      open_bytes(read_file(path));
    }
  });
}

ImageReader::ImageReader(std::vector<uint8_t> bytes, std::string name, int64_t max_samples)
    : name_(std::move(name)), max_samples_(max_samples) {
  with_name(name_, [&] { open_bytes(std::move(bytes)); });
}

ImageReader::~ImageReader() = default;
ImageReader::ImageReader(ImageReader&&) noexcept = default;
ImageReader& ImageReader::operator=(ImageReader&&) noexcept = default;

void ImageReader::open_bytes(std::vector<uint8_t> bytes) {
  bytes_ = std::move(bytes);
  require(!bytes_.empty(), "the file is empty, expected PNG, JPEG, BMP, PNM or TIFF");
  if (TiffReader::recognises(bytes_)) {
    tiff_ = std::make_unique<TiffReader>(bytes_, max_samples_);
  } else if (starts_with(bytes_, "\x89PNG")) {
    decode_ = decode_png;
  } else if (starts_with(bytes_, "\xff\xd8")) {
    decode_ = decode_jpeg;
  } else if (starts_with(bytes_, "BM")) {
    decode_ = decode_bmp;
  } else if (starts_with(bytes_, "P5") || starts_with(bytes_, "P6")) {
    decode_ = decode_pnm;
  } else {
    fail("found {}, expected PNG, JPEG, BMP, PNM (P5, P6) or TIFF; convert it",
         describe_unknown(bytes_));
  }
}

int64_t ImageReader::page_count() const {
  return tiff_ ? tiff_->page_count() : 1;
}

Image ImageReader::read(int64_t page) {
  return with_name(name_, [&] {
    require(page >= 0 && page < page_count(), "page {} of {} was asked for (counted from 0)", page,
            page_count());
    return tiff_ ? tiff_->read(page) : decode_(bytes_, max_samples_);
  });
}

NpyWriter::NpyWriter(const fs::path& path, const std::vector<int64_t>& shape)
    : file_(path),
      missing_(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>())) {
  static_assert(std::endian::native == std::endian::little, "the header says '<f4'");
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (const int64_t size : shape) header += fmt::format("{},", size);
  header += ")}";
  // Version 1.0: magic, version, length of the header, and the header padded to a multiple of 64.
  constexpr size_t kPrefix = 10;
  constexpr size_t kAlignment = 64;
  const size_t total = (kPrefix + header.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  header.resize(total - kPrefix - 1, ' ');
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  file_.stream() << "\x93NUMPY" << '\x01' << '\x00' << static_cast<char>(length & 255)
                 << static_cast<char>(length >> 8) << header;
}

void NpyWriter::append(std::span<const float> values) {
  missing_ -= static_cast<int64_t>(values.size());
  file_.stream().write(reinterpret_cast<const char*>(values.data()),
                       static_cast<std::streamsize>(values.size_bytes()));
  if (!file_.stream()) file_.fail_write("");
}

void NpyWriter::commit() {
  require(missing_ == 0, "NpyWriter: {} values {} the shape needs", std::abs(missing_),
          missing_ > 0 ? "fewer than" : "more than");
  file_.commit();
}

}  // namespace tessera
