#include "models/image/tiff_page.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace tessera {
namespace {

// Samples of up to so many bits are packed without gaps, the highest bit first.
constexpr int64_t kMostPackedBits = 16;

// ---- tags --------------------------------------------------------------------------------------

void require_readable_compression(TIFF* handle) {
  const auto compression = tiff_field<uint16_t>(handle, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  constexpr uint16_t kReadable[] = {
      COMPRESSION_NONE, COMPRESSION_LZW,      COMPRESSION_ADOBE_DEFLATE, COMPRESSION_DEFLATE,
      COMPRESSION_JPEG, COMPRESSION_PACKBITS, COMPRESSION_ZSTD};
  require(std::find(std::begin(kReadable), std::end(kReadable), compression) != std::end(kReadable),
          "TIFF compression {}, expected none, LZW, Deflate, JPEG, PackBits or Zstandard; save it "
          "with one of these",
          compression);
  require(TIFFIsCODECConfigured(compression) == 1,
          "TIFF compression {}, which the installed libtiff was built without", compression);
}

const char* name_of_photometric(uint16_t photometric) {
  switch (photometric) {
    case PHOTOMETRIC_SEPARATED:
      return "CMYK";
    case PHOTOMETRIC_CIELAB:
    case PHOTOMETRIC_ICCLAB:
    case PHOTOMETRIC_ITULAB:
      return "L*a*b*";
    case PHOTOMETRIC_CFA:
      return "the raw mosaic of a camera";
    case PHOTOMETRIC_MASK:
      return "a transparency mask";
    default:
      return "another colour space";
  }
}

// Sets how many colours a pixel has and how they are to be understood.
void read_photometric(TIFF* handle, TiffPage& page) {
  const auto photometric =
      tiff_field<uint16_t>(handle, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  switch (photometric) {
    case PHOTOMETRIC_MINISBLACK:
      page.colours = 1;
      break;
    case PHOTOMETRIC_MINISWHITE:
      page.colours = 1;
      page.white_is_zero = true;
      break;
    case PHOTOMETRIC_PALETTE:
      page.colours = 1;
      page.has_palette = true;
      break;
    case PHOTOMETRIC_RGB:
      page.colours = 3;
      break;
    case PHOTOMETRIC_YCBCR:
      require(tiff_field<uint16_t>(handle, TIFFTAG_COMPRESSION, 0) == COMPRESSION_JPEG,
              "TIFF in YCbCr without JPEG compression; save it as RGB");
      TIFFSetField(handle, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
      page.colours = 3;
      break;
    default:
      fail(
          "TIFF in {} (photometric interpretation {}), expected grey, RGB, palette or JPEG's "
          "YCbCr; save it as grey or RGB",
          name_of_photometric(photometric), photometric);
  }
}

const char* name_of_format(uint16_t format) {
  switch (format) {
    case SAMPLEFORMAT_UINT:
    case SAMPLEFORMAT_VOID:
      return "unsigned";
    case SAMPLEFORMAT_INT:
      return "signed";
    case SAMPLEFORMAT_IEEEFP:
      return "float";
    case SAMPLEFORMAT_COMPLEXINT:
    case SAMPLEFORMAT_COMPLEXIEEEFP:
      return "complex";
    default:
      return "unknown";
  }
}

void read_sample_type(TIFF* handle, TiffPage& page) {
  page.bits = tiff_field<uint16_t>(handle, TIFFTAG_BITSPERSAMPLE, 1);
  const auto format = tiff_field<uint16_t>(handle, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  page.is_float = format == SAMPLEFORMAT_IEEEFP;
  const bool is_unsigned = format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID;
  const bool is_packed = page.bits >= 1 && page.bits <= kMostPackedBits;
  require((is_unsigned && (is_packed || page.bits == 32)) || (page.is_float && page.bits == 32),
          "TIFF with {}-bit {} samples, expected 1 to 16 or 32 bit unsigned, or 32 bit float; save "
          "it as one of these",
          page.bits, name_of_format(format));
  require(!page.has_palette || (page.bits <= 16 && !page.is_float),
          "TIFF palette with {}-bit indices, expected up to 16", page.bits);
  require(!page.white_is_zero || !page.is_float,
          "TIFF with float samples in which white is zero; save it with black as zero");
}

// What is beyond the colours: one alpha is dropped, nothing else is.
void require_alpha_at_most(TIFF* handle, const TiffPage& page) {
  require(page.samples >= page.colours,
          "TIFF with {} samples per pixel, expected {} for its colours; save it as grey or RGB",
          page.samples, page.colours);
  const int64_t more = page.samples - page.colours;
  uint16_t count = 0;
  const uint16_t* kinds = nullptr;
  if (TIFFGetFieldDefaulted(handle, TIFFTAG_EXTRASAMPLES, &count, &kinds) != 1) count = 0;
  std::string names = page.has_palette    ? "palette index"
                      : page.colours == 1 ? "grey"
                                          : "red, green, blue";
  bool alpha = false;  // the last named
  constexpr int64_t kMostNamed = 4;
  for (int64_t i = 0; i < std::min(more, kMostNamed); ++i) {
    const uint16_t kind = i < count ? kinds[i] : uint16_t{EXTRASAMPLE_UNSPECIFIED};
    alpha = kind == EXTRASAMPLE_ASSOCALPHA || kind == EXTRASAMPLE_UNASSALPHA;
    names += fmt::format(", {} (ExtraSamples {})", alpha ? "alpha" : "one not specified", kind);
  }
  if (more > kMostNamed) names += fmt::format(" and {} more", more - kMostNamed);
  require(more == 0 || (more == 1 && alpha),
          "TIFF with {} channels: {}; expected grey or RGB, and nothing beside it but one alpha, "
          "which is left out. Choose one with --channel, or save those that are meant as an image "
          "of their own",
          page.samples, names);
}

void read_layout(TIFF* handle, TiffPage& page, int64_t max_samples) {
  page.tiled = TIFFIsTiled(handle) != 0;
  if (page.tiled) {
    page.chunk_width = tiff_field<uint32_t>(handle, TIFFTAG_TILEWIDTH, 0);
    page.chunk_height = tiff_field<uint32_t>(handle, TIFFTAG_TILELENGTH, 0);
    page.chunk_depth = tiff_field<uint32_t>(handle, TIFFTAG_TILEDEPTH, 1);
  } else {
    page.chunk_width = page.width;
    const auto rows = tiff_field<uint32_t>(handle, TIFFTAG_ROWSPERSTRIP, 0xffffffffu);
    page.chunk_height = std::min<int64_t>(page.height, rows);
  }
  // What must be decoded whole must lie in memory whole.
  if (!tiff_rows_lie_open(handle, page)) max_samples = std::min(max_samples, kMaxSamples);
  require_readable_size(page.chunk_height, page.chunk_width, page.samples, max_samples);
  require(
      page.chunk_depth >= 1 &&
          page.chunk_depth <= max_samples / (page.chunk_height * page.chunk_width * page.samples),
      "TIFF tiles of {} x {} x {} pixels (width x height x depth), above the limit of {} "
      "samples; save it in smaller ones",
      page.chunk_width, page.chunk_height, page.chunk_depth, max_samples);
}

// ---- pixels ------------------------------------------------------------------------------------

// Sample `i` of a row that packs `bits` bits per sample, the first in the highest.
template <class T>
T unpack(const uint8_t* row, int64_t i, int64_t bits) {
  if (bits == 8 * static_cast<int64_t>(sizeof(T))) {
    T value;
    std::memcpy(&value, row + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  const int64_t begin = i * bits, last = begin + bits - 1;
  uint32_t value = 0;  // of the at most 3 bytes that the sample touches
  for (int64_t byte = begin / 8; byte <= last / 8; ++byte) value = value << 8 | row[byte];
  return static_cast<T>((value >> (7 - last % 8)) & ((uint32_t{1} << bits) - 1));
}

// Fetches strips, tiles, or rows as they lie in the file, decoded and in the machine's byte order.
class ChunkReader {
 public:
  // Rows of a rectangle: pixel `column` of each is the rectangle's first one.
  struct Rows {
    const uint8_t* first;
    int64_t stride;  // bytes
    int64_t column;
  };

  ChunkReader(TiffContext& context, const TiffPage& page, const TiffPlace& place, bool whole)
      : context_(context),
        page_(page),
        place_(place),
        slice_bytes_(page.row_bytes() * page.chunk_height),
        as_they_lie_(place.raw || (!whole && tiff_rows_lie_open(context.handle, page))) {}

  // The rows behind `y` that one call reads at most.
  int64_t last_row(int64_t y) const {
    constexpr int64_t kRowsAtOnce = 64;
    const int64_t end = (y / page_.chunk_height + 1) * page_.chunk_height;
    return as_they_lie_ ? std::min(end, y + kRowsAtOnce) : end;
  }

  // `part` lies in one chunk; valid until the next call.
  Rows read(const ImageWindow& part, int64_t plane) {
    if (place_.raw) {
      const int64_t from = plane * page_.height * page_.row_bytes();
      const auto rows = read_open_rows(part, part.y0, *place_.raw + static_cast<uint64_t>(from));
      require(rows.has_value(), "truncated TIFF: it ends before row {} of a plane", part.y1);
      return *rows;
    }
    TIFF* handle = context_.handle;
    const int64_t y = part.y0 / page_.chunk_height * page_.chunk_height;
    const int64_t x = part.x0 / page_.chunk_width * page_.chunk_width;
    const auto x32 = static_cast<uint32_t>(x);
    const auto y32 = static_cast<uint32_t>(y);
    const auto z32 = static_cast<uint32_t>(place_.slice);
    const auto plane16 = static_cast<uint16_t>(plane);
    const uint32_t index = page_.tiled ? TIFFComputeTile(handle, x32, y32, z32, plane16)
                                       : TIFFComputeStrip(handle, y32, plane16);
    const tmsize_t size = page_.tiled
                              ? slice_bytes_ * page_.chunk_depth
                              : page_.row_bytes() * std::min(page_.chunk_height, page_.height - y);
    if (as_they_lie_) {
      const bool complete = TIFFGetStrileByteCount(handle, index) >= static_cast<uint64_t>(size);
      const auto rows = complete
                            ? read_open_rows(part, part.y0 - y, TIFFGetStrileOffset(handle, index))
                            : std::nullopt;
      if (!rows) refuse(index, y, x);
      return *rows;
    }
    uint8_t* const to = room(size);
    const tmsize_t found = page_.chunk_depth > 1 ? read_deep_tile(index, size)
                           : page_.tiled         ? TIFFReadEncodedTile(handle, index, to, size)
                                                 : TIFFReadEncodedStrip(handle, index, to, size);
    if (found != size || !context_.error.empty()) refuse(index, y, x);
    return {
        to + place_.slice % page_.chunk_depth * slice_bytes_ + (part.y0 - y) * page_.row_bytes(),
        page_.row_bytes(), part.x0 - x};
  }

 private:
  uint8_t* room(int64_t size) {
    if (size > size_) bytes_ = std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(size));
    size_ = std::max(size_, size);
    return bytes_.get();
  }

  // Rows that are not compressed, of which the one at byte `begin` is `row` rows before the first
  // that is wanted; of whole bytes the wanted columns alone. None where the file ends before.
  std::optional<Rows> read_open_rows(const ImageWindow& part, int64_t row, uint64_t begin) {
    const bool whole_bytes = page_.bits % 8 == 0;
    const int64_t pixel = page_.samples * page_.bits / 8;
    const int64_t skipped = whole_bytes ? part.x0 * pixel : 0;
    const int64_t length = whole_bytes ? (part.x1 - part.x0) * pixel : page_.row_bytes();
    const int64_t rows = part.y1 - part.y0;
    const std::span<uint8_t> to(room(rows * length), static_cast<size_t>(rows * length));
    const int64_t pieces = length == page_.row_bytes() ? 1 : rows;
    const size_t piece = to.size() / static_cast<size_t>(pieces);
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t from = (row + i) * page_.row_bytes() + skipped;
      if (!context_.read_raw(begin + static_cast<uint64_t>(from),
                             to.subspan(static_cast<size_t>(i) * piece, piece)))
        return std::nullopt;
    }
    if (TIFFIsByteSwapped(context_.handle) != 0) swap_bytes(to);
    return Rows{to.data(), length, whole_bytes ? 0 : part.x0};
  }

  // libtiff itself decodes the first slice of a tile alone. Returns the bytes, of all slices.
  tmsize_t read_deep_tile(uint32_t index, tmsize_t size) {
    TIFF* handle = context_.handle;
    const uint64_t stored = TIFFGetStrileByteCount(handle, index);
    require(stored <= context_.file_size(),
            "damaged or truncated TIFF: a tile of {} bytes, the file has {}", stored,
            context_.file_size());
    std::vector<uint8_t> raw(static_cast<size_t>(stored));
    const auto raw_size = static_cast<tmsize_t>(stored);
    const bool read = TIFFReadRawTile(handle, index, raw.data(), raw_size) == raw_size;
    return read && TIFFReadFromUserBuffer(handle, index, raw.data(), raw_size, bytes_.get(),
                                          size) == 1
               ? size
               : 0;
  }

  // Of a strip or tile that libtiff has not read whole: mostly it is not in the file.
  [[noreturn]] void refuse(uint32_t index, int64_t y, int64_t x) const {
    const char* const what = page_.tiled ? "tile" : "strip";
    const uint64_t begin = TIFFGetStrileOffset(context_.handle, index),
                   bytes = TIFFGetStrileByteCount(context_.handle, index),
                   file = context_.file_size();
    if (begin > file || bytes > file - begin) {
      fail(
          "damaged or truncated TIFF: the {} of row {}, column {} has {} bytes from byte {} on, "
          "but the file has {}; fetch or save it again",
          what, y, x, bytes, begin, file);
    }
    require(bytes > 0,
            "damaged TIFF: the {} of row {}, column {} is not in the file (0 bytes); fetch or save "
            "it again",
            what, y, x);
    fail("damaged TIFF: the {} of row {}, column {} does not decode ({}); fetch or save it again",
         what, y, x, context_.error.empty() ? "it is too short" : context_.error);
  }

  void swap_bytes(std::span<uint8_t> samples) const {
    if (page_.bits % 8 != 0) return;  // packed bits have one order
    const auto size = static_cast<size_t>(page_.bits / 8);
    for (size_t i = 0; i + size <= samples.size(); i += size)
      std::ranges::reverse(samples.subspan(i, size));
  }

  TiffContext& context_;
  const TiffPage& page_;
  const TiffPlace& place_;
  int64_t slice_bytes_;
  bool as_they_lie_;
  std::unique_ptr<uint8_t[]> bytes_;
  int64_t size_ = 0;  // of `bytes_`
};

template <class T>
std::vector<T> read_pixels(TiffContext& context, const TiffPage& page, const TiffPlace& place,
                           const ImageWindow& part) {
  const bool whole = part.y1 - part.y0 == page.height && part.x1 - part.x0 == page.width;
  ChunkReader chunks(context, page, place, whole);
  const int64_t out_row = (part.x1 - part.x0) * page.colours;
  // Reserved memory is not touched: a header that promises more than the file holds costs nothing.
  std::vector<T> pixels;
  pixels.reserve(static_cast<size_t>((part.y1 - part.y0) * out_row));

  for (int64_t y = part.y0; y < part.y1;) {
    const int64_t y_end = std::min(chunks.last_row(y), part.y1);
    for (int64_t x = part.x0; x < part.x1;) {
      const int64_t x_end = std::min((x / page.chunk_width + 1) * page.chunk_width, part.x1);
      for (int64_t plane = 0; plane < page.planes; ++plane) {
        const bool in_planes = page.stored_planes > 1;
        const ChunkReader::Rows rows =
            chunks.read({y, x, y_end, x_end}, in_planes ? page.first + plane : plane);
        const int64_t first = in_planes ? 0 : page.first;
        pixels.resize(static_cast<size_t>((y_end - part.y0) * out_row));
        const int64_t colours = page.planes > 1 ? 1 : page.colours;
        for (int64_t r = 0; r < y_end - y; ++r) {
          const uint8_t* from = rows.first + r * rows.stride;
          T* to =
              pixels.data() + (y + r - part.y0) * out_row + (x - part.x0) * page.colours + plane;
          for (int64_t c = rows.column; c < rows.column + x_end - x; ++c, to += page.colours) {
            for (int64_t k = 0; k < colours; ++k) {
              to[k] = unpack<T>(from, c * page.samples + first + k, page.bits);
            }
          }
        }
      }
      x = x_end;
    }
    y = y_end;
  }
  return pixels;
}

// Indices become 8-bit RGB; TIFF palettes have 16 bits, of which some writers fill the lower 8
// only.
template <class T>
std::vector<uint8_t> apply_palette(TIFF* handle, const std::vector<T>& indices, int64_t bits) {
  uint16_t* palette[3] = {};
  require(TIFFGetField(handle, TIFFTAG_COLORMAP, &palette[0], &palette[1], &palette[2]) == 1,
          "damaged TIFF: palette indices without a palette");
  const int64_t colours = int64_t{1} << bits;
  const bool is_8_bit = std::all_of(std::begin(palette), std::end(palette), [&](uint16_t* column) {
    return std::all_of(column, column + colours, [](uint16_t value) { return value < 256; });
  });
  std::vector<uint8_t> pixels;
  pixels.reserve(indices.size() * 3);
  for (const T index : indices) {
    for (const uint16_t* column : palette) {
      pixels.push_back(static_cast<uint8_t>(is_8_bit ? column[index] : column[index] >> 8));
    }
  }
  return pixels;
}

// Bits that do not fill their type are spread over its whole range; white as zero is inverted.
// Neither is done to numbers, but that 1 bit becomes 0 and 255 for everybody.
template <class T>
void to_full_range(std::vector<T>& pixels, const TiffPage& page, bool as_stored) {
  constexpr uint32_t kWhite = std::numeric_limits<T>::max();
  if (page.bits < 8 * static_cast<int64_t>(sizeof(T)) && (!as_stored || page.bits == 1)) {
    const uint32_t white = (uint32_t{1} << page.bits) - 1;
    for (T& value : pixels) value = static_cast<T>((value * kWhite + white / 2) / white);
  }
  if (page.white_is_zero && !as_stored) {
    for (T& value : pixels) value = static_cast<T>(kWhite - value);
  }
}

template <class T>
Image::Pixels read_integers(TiffContext& context, const TiffPage& page, const TiffPlace& place,
                            const ImageWindow& part, StoredValues* stored) {
  std::vector<T> pixels = read_pixels<T>(context, page, place, part);
  if constexpr (sizeof(T) <= 2) {
    if (page.has_palette) {
      Image::Pixels colours = apply_palette(context.handle, pixels, page.bits);
      if (stored != nullptr) {
        stored->indices = Image{part.y1 - part.y0, part.x1 - part.x0, 1, std::move(pixels)};
      }
      return colours;
    }
  }
  to_full_range(pixels, page, stored != nullptr);
  return pixels;
}

}  // namespace

TiffPage read_tiff_page(TIFF* handle, int64_t max_samples, std::optional<int64_t> channel) {
  TiffPage page;
  page.width = tiff_field<uint32_t>(handle, TIFFTAG_IMAGEWIDTH, 0);
  page.height = tiff_field<uint32_t>(handle, TIFFTAG_IMAGELENGTH, 0);
  require_readable_compression(handle);
  read_photometric(handle, page);
  read_sample_type(handle, page);
  page.samples = tiff_field<uint16_t>(handle, TIFFTAG_SAMPLESPERPIXEL, 1);
  if (channel) {
    require(!page.has_palette, "--channel {}: its pixels are indices of a palette", *channel);
    require(*channel >= 0 && *channel < page.samples,
            "--channel {}: it has {} channels (counted from 0)", *channel, page.samples);
    page.first = *channel;
    page.colours = 1;
  } else {
    require_alpha_at_most(handle, page);
  }
  require_readable_size(page.height, page.width, page.has_palette ? 3 : page.samples, max_samples);
  const auto planar = tiff_field<uint16_t>(handle, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  if (planar == PLANARCONFIG_SEPARATE) {
    page.stored_planes = page.samples;
    page.planes = page.colours;
    page.samples = 1;
  }
  read_layout(handle, page, max_samples);
  return page;
}

std::optional<TiffRun> tiff_run(TIFF* handle, const TiffPage& page, const char** why_not) {
  const auto refuse = [&](const char* why) {
    *why_not = why;
    return std::nullopt;
  };
  if (tiff_field<uint16_t>(handle, TIFFTAG_COMPRESSION, COMPRESSION_NONE) != COMPRESSION_NONE)
    return refuse("it is compressed");
  if (page.tiled) return refuse("it is cut into tiles");
  TiffRun run{TIFFGetStrileOffset(handle, 0), 0};
  uint32_t strip = 0;
  for (int64_t plane = 0; plane < page.stored_planes; ++plane) {
    for (int64_t y = 0; y < page.height; y += page.chunk_height, ++strip) {
      if (TIFFGetStrileOffset(handle, strip) != run.begin + run.size)
        return refuse("its strips do not follow one another");
      const int64_t rows = std::min(page.chunk_height, page.height - y);
      run.size += static_cast<uint64_t>(rows * page.row_bytes());
    }
  }
  return run;
}

bool tiff_rows_lie_open(TIFF* handle, const TiffPage& page) {
  const auto fill = tiff_field<uint16_t>(handle, TIFFTAG_FILLORDER, FILLORDER_MSB2LSB);
  return !page.tiled && page.bits % 8 == 0 && fill == FILLORDER_MSB2LSB &&
         tiff_field<uint16_t>(handle, TIFFTAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_NONE;
}

Image read_tiff_image(TiffContext& context, const TiffPage& page, const TiffPlace& place,
                      const ImageWindow& part, StoredValues* stored) {
  context.error.clear();
  // libjpeg fills what is missing with grey and only warns.
  context.warnings_are_errors =
      tiff_field<uint16_t>(context.handle, TIFFTAG_COMPRESSION, 0) == COMPRESSION_JPEG;
  if (stored != nullptr) {
    stored->lossy = context.warnings_are_errors;
    stored->white_is_zero = page.white_is_zero;
  }

  Image image;
  image.height = part.y1 - part.y0;
  image.width = part.x1 - part.x0;
  image.channels = page.channels();
  if (page.is_float) {
    image.pixels = read_pixels<float>(context, page, place, part);
  } else if (page.bits <= 8) {
    image.pixels = read_integers<uint8_t>(context, page, place, part, stored);
  } else if (page.bits <= 16) {
    image.pixels = read_integers<uint16_t>(context, page, place, part, stored);
  } else {
    image.pixels = read_integers<uint32_t>(context, page, place, part, stored);
  }
  return image;
}

}  // namespace tessera
