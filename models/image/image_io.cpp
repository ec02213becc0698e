#include "models/image/image_io.h"

#include <unistd.h>

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

#include "engine/files/input_file.h"
#include "kernels/error.h"
#include "models/image/bmp.h"
#include "models/image/jpeg.h"
#include "models/image/png.h"
#include "models/image/tiff.h"
#include "models/image/zarr.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const uint8_t>;

bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

// What a user may have passed by mistake, and what to do, for the error's text. None of these is
// read.
std::string describe_unknown(Bytes bytes) {
  struct Kind {
    size_t offset;
    std::string_view magic;
    const char* name;
    const char* remedy;
  };
  using namespace std::string_view_literals;
  constexpr const char* kSave = "save it as PNG or TIFF";
  constexpr const char* kUnpack = "unpack it";
  constexpr const char* kExport = "export its pictures as TIFF, with Fiji say";
  constexpr const char* kNumbers = "write its array as TIFF, with tifffile.imwrite say";
  constexpr const char* kRaster = "it holds drawings, not pixels; export it as PNG";
  constexpr const char* kBinary = "save it as a binary one (P5, P6) or PNG";
  constexpr Kind kKinds[] = {
      {0, "GIF8"sv, "a GIF", kSave},
      {8, "WEBP"sv, "a WebP", kSave},
      {0, "RIFF"sv, "an AVI or another RIFF file", "save its pictures as PNG or TIFF"},
      {4, "ftypavif"sv, "an AVIF", kSave},
      {4, "ftyphei"sv, "a HEIC", kSave},
      {4, "ftyphev"sv, "a HEIC", kSave},
      {4, "ftypmif1"sv, "a HEIF", kSave},
      {4, "ftyp"sv, "an MP4 or another film", "save its pictures as PNG or TIFF"},
      {0, "\0\0\0\x0cjP  "sv, "a JPEG 2000", kSave},
      {0, "\xff\x4f\xff\x51"sv, "a JPEG 2000", kSave},
      {0, "\0\0\0\x0cJXL "sv, "a JPEG XL", kSave},
      {0, "\xff\x0a"sv, "a JPEG XL", kSave},
      {0, "8BPS"sv, "a Photoshop file", kSave},
      {0, "gimp xcf"sv, "a GIMP file", kSave},
      {0, "qoif"sv, "a QOI", kSave},
      {0, "v/1\x01"sv, "an OpenEXR", kSave},
      {0, "#?RADIANCE"sv, "a Radiance HDR", kSave},
      {0, "DDS "sv, "a DDS", kSave},
      {0, "\0\0\1\0"sv, "an icon", kSave},
      {0, "%PDF"sv, "a PDF", kRaster},
      {0, "%!PS"sv, "a PostScript file", kRaster},
      {0, "<svg"sv, "an SVG", kRaster},
      {0, "<?xml"sv, "an XML file, perhaps an SVG", kRaster},
      {0, "\x93NUMPY"sv, "a NumPy array", kNumbers},
      {0, "\x89HDF"sv, "an HDF5 file", kNumbers},
      {0, "MATLAB"sv, "a MATLAB file", kNumbers},
      {0, "SIMPLE  ="sv, "a FITS", kNumbers},
      {128, "DICM"sv, "a DICOM", kExport},
      {0, "ZISRAWFILE"sv, "a Zeiss CZI", kExport},
      {0, "\xda\xce\xbe\x0a"sv, "a Nikon ND2", kExport},
      {0, "\x70\0\0\0"sv, "a Leica LIF", kExport},
      {0, "PK\x03\x04"sv, "a ZIP", kUnpack},
      {0, "\x1f\x8b"sv, "a gzip file", kUnpack},
      {0, "BZh"sv, "a bzip2 file", kUnpack},
      {0,
       "\xfd"
       "7zXZ"sv,
       "an xz file", kUnpack},
      {0, "\x28\xb5\x2f\xfd"sv, "a Zstandard file", kUnpack},
      {0, "P1"sv, "a text PNM", kBinary},
      {0, "P2"sv, "a text PNM", kBinary},
      {0, "P3"sv, "a text PNM", kBinary},
      {0, "P4"sv, "a 1-bit PNM", kBinary},
      {0, "P7"sv, "a PAM", kBinary},
      {0, "PF"sv, "a float PNM", "save it as a 32-bit float TIFF"},
      {0, "Pf"sv, "a float PNM", "save it as a 32-bit float TIFF"},
      {0, "version https://git-lfs"sv, "a pointer of Git LFS", "fetch the file: git lfs pull"},
  };
  for (const Kind& kind : kKinds) {
    if (bytes.size() >= kind.offset && starts_with(bytes.subspan(kind.offset), kind.magic))
      return fmt::format("{}, which is not read; {}", kind.name, kind.remedy);
  }
  std::string hex;
  for (const uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8))) {
    hex += fmt::format(" {:02x}", byte);
  }
  return fmt::format(
      "a file that begins with the bytes{}, expected PNG, JPEG, BMP, PNM (P5, P6) or "
      "TIFF; convert it",
      hex);
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
  const int descriptor = open_input(path);
  require(descriptor >= 0, "{}", std::strerror(errno));
  std::vector<uint8_t> bytes;
  constexpr size_t kStep = size_t{1} << 20;
  ssize_t count = 1;
  while (count != 0) {
    const size_t size = bytes.size();
    bytes.resize(size + kStep);
    do {
      count = ::read(descriptor, bytes.data() + size, kStep);
    } while (count < 0 && errno == EINTR);
    if (count < 0) break;
    bytes.resize(size + static_cast<size_t>(count));
  }
  const int error = errno;
  ::close(descriptor);
  require(count == 0, "{}", std::strerror(error));
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
  constexpr const char* kExtensions[] = {".png",  ".jpg", ".jpeg", ".jpe", ".jfif", ".jif",
                                         ".bmp",  ".dib", ".pnm",  ".pgm", ".ppm",  ".tif",
                                         ".tiff", ".tf2", ".tf8",  ".btf", ".lsm",  ".stk"};
  return std::ranges::find(kExtensions, extension) != std::end(kExtensions);
}

bool is_store_folder(const fs::path& path) {
  return ZarrReader::recognises(path);
}

bool is_image_folder(const fs::path& path) {
  try {
    return ZarrReader::recognises(path) && !ZarrReader::has_labels(path);
  } catch (const Error&) {  // metadata that are damaged: opening it tells
    return true;
  }
}

ImageReader::ImageReader(const fs::path& path, int64_t max_samples)
    : name_(path.string()), max_samples_(max_samples) {
  with_name(name_, [&] {
    if (fs::is_directory(path)) {
      require(ZarrReader::recognises(path),
              "it is a folder, expected an image file, or the folder of a Zarr store");
      stored_ = std::make_unique<ZarrReader>(path, max_samples);
    } else if (TiffReader::recognises(peek(path))) {
      stored_ = std::make_unique<TiffReader>(path, max_samples);
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
    stored_ = std::make_unique<TiffReader>(bytes_, max_samples_);
  } else if (starts_with(bytes_, "\x89PNG")) {
    decode_ = decode_png;
  } else if (starts_with(bytes_, "\xff\xd8")) {
    decode_ = decode_jpeg;
  } else if (starts_with(bytes_, "BM")) {
    decode_ = decode_bmp;
  } else if (starts_with(bytes_, "P5") || starts_with(bytes_, "P6")) {
    decode_ = decode_pnm;
  } else {
    fail("found {}", describe_unknown(bytes_));
  }
}

void ImageReader::choose(const ImageChoice& choice) {
  with_name(name_, [&] {
    if (choice.channel) {
      require(reads_parts(), "--channel {}: it is no TIFF and no Zarr store", *choice.channel);
      stored_->choose_channel(*choice.channel);
    }
    if (choice.level != 0) {
      const std::vector<PyramidLevel> all = levels();
      require(choice.level > 0 &&
                      choice.level<std::ssize(all), "--level {}: it has {} (level: height x width)",
                                   choice.level, all.size()> 1
                  ? describe_levels(all)
                  : "one level alone, 0");
      require_one_picture(all);
      stored_->choose_level(choice.level);
    }
    if (choice.page) {
      require_page(*choice.page);
      only_page_ = choice.page;
    }
  });
}

std::vector<PyramidLevel> ImageReader::levels() {
  if (!stored_) return {};
  return with_name(name_, [&] { return stored_->levels(); });
}

int64_t ImageReader::page_count() const {
  return stored_ && !only_page_ ? stored_->page_count() : 1;
}

int64_t ImageReader::page_count(const fs::path& path) {
  const bool is_tiff = with_name(path.string(), [&] { return TiffReader::recognises(peek(path)); });
  return is_tiff ? ImageReader(path).page_count() : 1;
}

Image ImageReader::read(int64_t page) {
  return read_page(page, nullptr);
}

Image ImageReader::read(int64_t page, StoredValues& stored) {
  stored = {};
  return read_page(page, &stored);
}

ImageLayout ImageReader::layout(int64_t page) {
  return with_name(name_, [&] { return parts_of(page).layout(stored_page(page)); });
}

Image ImageReader::read_part(const ImageWindow& part, int64_t page, StoredValues* stored) {
  return with_name(name_,
                   [&] { return parts_of(page).read_part(stored_page(page), part, stored); });
}

StoredImage& ImageReader::parts_of(int64_t page) {
  require(reads_parts(), "it is no TIFF or Zarr store; only these can be read in parts");
  require_page(page);
  return *stored_;
}

void ImageReader::require_page(int64_t page) const {
  require(page >= 0 && page < page_count(), "page {} of {} was asked for (counted from 0)", page,
          page_count());
}

Image ImageReader::read_page(int64_t page, StoredValues* stored) {
  return with_name(name_, [&] {
    require_page(page);
    if (stored_) return stored_->read(stored_page(page), stored);
    if (stored != nullptr) {
      stored->lossy = decode_ == decode_jpeg;
      if (decode_ == decode_png) stored->indices = decode_png_indices(bytes_, max_samples_);
    }
    return decode_(bytes_, max_samples_);
  });
}

}  // namespace tessera
