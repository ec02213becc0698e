#include "models/tiff.h"

#include <tiffio.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string_view>

#include "kernels/error.h"

namespace tessera {

struct TiffContext {
  ~TiffContext() {
    if (handle != nullptr) TIFFClose(handle);
  }

  TIFF* handle = nullptr;
  std::span<const uint8_t> bytes;  // the file, when it is in memory
  uint64_t position = 0;           // in `bytes`
  std::string error;               // libtiff's first message since it was last cleared
  bool warnings_are_errors = false;
};

namespace {

// ---- libtiff's callbacks -----------------------------------------------------------------------

// Returning 1 tells libtiff that it need not print the message.
int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  auto* context = static_cast<TiffContext*>(user);
  if (context->error.empty()) {
    char text[512];
    std::vsnprintf(text, sizeof(text), format, arguments);
    context->error = text;
  }
  return 1;
}

int on_warning(TIFF* handle, void* user, const char* module, const char* format,
               va_list arguments) {
  if (!static_cast<TiffContext*>(user)->warnings_are_errors) return 1;
  return on_error(handle, user, module, format, arguments);
}

tmsize_t read_memory(thandle_t user, void* to, tmsize_t count) {
  auto* context = static_cast<TiffContext*>(user);
  const uint64_t left =
      context->bytes.size() - std::min<uint64_t>(context->position, context->bytes.size());
  const uint64_t size = std::min(left, static_cast<uint64_t>(count));
  if (size > 0) std::memcpy(to, context->bytes.data() + context->position, size);
  context->position += size;
  return static_cast<tmsize_t>(size);
}

tmsize_t refuse_write(thandle_t, void*, tmsize_t) {
  return 0;
}

toff_t seek_memory(thandle_t user, toff_t offset, int origin) {
  auto* context = static_cast<TiffContext*>(user);
  const uint64_t base = origin == SEEK_SET   ? 0
                        : origin == SEEK_CUR ? context->position
                                             : context->bytes.size();
  context->position = base + offset;  // past the end is allowed: reading there gives nothing
  return context->position;
}

int close_memory(thandle_t) {
  return 0;
}

toff_t size_of_memory(thandle_t user) {
  return static_cast<TiffContext*>(user)->bytes.size();
}

using Options = std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)>;

Options make_options(TiffContext* context) {
  Options options(TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
  require(options != nullptr, "out of memory for libtiff");
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, context);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), on_warning, context);
  return options;
}

// ---- reading -----------------------------------------------------------------------------------

template <class T>
T field(TIFF* handle, uint32_t tag, T missing) {
  T value = missing;
  return TIFFGetFieldDefaulted(handle, tag, &value) == 1 ? value : missing;
}

// What a page's tags say, checked.
struct Page {
  int64_t height = 0;
  int64_t width = 0;
  int64_t colours = 0;  // 1 (grey or palette index) or 3
  int64_t samples = 0;  // per pixel and plane, with alpha
  int64_t planes = 1;   // 1, or one per colour
  int64_t bits = 0;     // per sample
  bool is_float = false;
  bool white_is_zero = false;
  bool has_palette = false;
  bool tiled = false;
  int64_t chunk_height = 0;  // of a tile or strip
  int64_t chunk_width = 0;
};

void require_readable_compression(TIFF* handle) {
  const auto compression = field<uint16_t>(handle, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
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

// Sets how many colours a pixel has and how they are to be understood.
void read_photometric(TIFF* handle, Page& page) {
  const auto photometric = field<uint16_t>(handle, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
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
      require(field<uint16_t>(handle, TIFFTAG_COMPRESSION, 0) == COMPRESSION_JPEG,
              "TIFF in YCbCr without JPEG compression; save it as RGB");
      TIFFSetField(handle, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
      page.colours = 3;
      break;
    default:
      fail(
          "TIFF photometric interpretation {}, expected grey, RGB, palette or JPEG's YCbCr; save "
          "it as grey or RGB",
          photometric);
  }
}

void read_sample_type(TIFF* handle, Page& page) {
  page.bits = field<uint16_t>(handle, TIFFTAG_BITSPERSAMPLE, 1);
  const auto format = field<uint16_t>(handle, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  page.is_float = format == SAMPLEFORMAT_IEEEFP;
  const bool is_unsigned = format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID;
  const bool is_small = page.bits == 1 || page.bits == 2 || page.bits == 4;
  const bool is_whole = page.bits == 8 || page.bits == 16 || page.bits == 32;
  require((is_unsigned && (is_small || is_whole)) || (page.is_float && page.bits == 32),
          "TIFF with {}-bit {} samples, expected 1 to 32 bit unsigned or 32 bit float; convert it",
          page.bits,
          page.is_float ? "float"
          : is_unsigned ? "unsigned"
                        : "signed, complex or unknown");
  require(!page.has_palette || (page.bits <= 16 && !page.is_float),
          "TIFF palette with {}-bit indices, expected up to 16", page.bits);
  require(!page.white_is_zero || !page.is_float,
          "TIFF with float samples in which white is zero; save it with black as zero");
}

void read_layout(TIFF* handle, Page& page, int64_t max_samples) {
  page.tiled = TIFFIsTiled(handle) != 0;
  if (page.tiled) {
    page.chunk_width = field<uint32_t>(handle, TIFFTAG_TILEWIDTH, 0);
    page.chunk_height = field<uint32_t>(handle, TIFFTAG_TILELENGTH, 0);
  } else {
    page.chunk_width = page.width;
    const auto rows = field<uint32_t>(handle, TIFFTAG_ROWSPERSTRIP, 0xffffffffu);
    page.chunk_height = std::min<int64_t>(page.height, rows);
  }
  require_readable_size(page.chunk_height, page.chunk_width, page.samples, max_samples);
}

Page read_page_tags(TIFF* handle, int64_t max_samples) {
  Page page;
  page.width = field<uint32_t>(handle, TIFFTAG_IMAGEWIDTH, 0);
  page.height = field<uint32_t>(handle, TIFFTAG_IMAGELENGTH, 0);
  require_readable_compression(handle);
  read_photometric(handle, page);
  read_sample_type(handle, page);
  page.samples = field<uint16_t>(handle, TIFFTAG_SAMPLESPERPIXEL, 1);
  require(page.samples == page.colours || page.samples == page.colours + 1,
          "TIFF with {} samples per pixel, expected {}, or one more for alpha; save each channel "
          "as a page of its own",
          page.samples, page.colours);
  require_readable_size(page.height, page.width, page.has_palette ? 3 : page.samples, max_samples);
  if (field<uint16_t>(handle, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE) {
    page.planes = page.colours;
    page.samples = 1;
  }
  read_layout(handle, page, max_samples);
  return page;
}

// Sample `i` of a row that packs `bits` bits per sample, the first in the highest.
template <class T>
T unpack(const uint8_t* row, int64_t i, int64_t bits) {
  if (bits == 8 * static_cast<int64_t>(sizeof(T))) {
    T value;
    std::memcpy(&value, row + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  const int64_t bit = i * bits;
  return static_cast<T>((row[bit / 8] >> (8 - bits - bit % 8)) & ((1 << bits) - 1));
}

// Decodes all strips or tiles, which libtiff swaps to the machine's byte order.
template <class T>
std::vector<T> read_pixels(TiffContext& context, const Page& page) {
  const int64_t row_bytes = (page.chunk_width * page.samples * page.bits + 7) / 8;
  const auto chunk =
      std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(row_bytes * page.chunk_height));
  const int64_t out_row = page.width * page.colours;
  // Reserved memory is not touched: a header that promises more than the file holds costs nothing.
  std::vector<T> pixels;
  pixels.reserve(static_cast<size_t>(page.height * out_row));

  const auto read_chunk = [&](int64_t y, int64_t x, int64_t plane, int64_t rows) {
    const auto x32 = static_cast<uint32_t>(x);
    const auto y32 = static_cast<uint32_t>(y);
    const auto plane16 = static_cast<uint16_t>(plane);
    const tmsize_t bytes = row_bytes * (page.tiled ? page.chunk_height : rows);
    const tmsize_t found =
        page.tiled
            ? TIFFReadEncodedTile(context.handle,
                                  TIFFComputeTile(context.handle, x32, y32, 0, plane16),
                                  chunk.get(), bytes)
            : TIFFReadEncodedStrip(context.handle, TIFFComputeStrip(context.handle, y32, plane16),
                                   chunk.get(), bytes);
    require(found == bytes && context.error.empty(),
            "damaged or truncated TIFF: {} bytes at row {}, column {}, expected {} ({})", found, y,
            x, bytes, context.error.empty() ? "no message of libtiff" : context.error);
  };

  for (int64_t y = 0; y < page.height; y += page.chunk_height) {
    const int64_t rows = std::min(page.chunk_height, page.height - y);
    for (int64_t x = 0; x < page.width; x += page.chunk_width) {
      const int64_t columns = std::min(page.chunk_width, page.width - x);
      for (int64_t plane = 0; plane < page.planes; ++plane) {
        read_chunk(y, x, plane, rows);
        pixels.resize(static_cast<size_t>((y + rows) * out_row));
        const int64_t colours = page.planes > 1 ? 1 : page.colours;
        for (int64_t r = 0; r < rows; ++r) {
          const uint8_t* from = chunk.get() + r * row_bytes;
          T* to = pixels.data() + (y + r) * out_row + x * page.colours + plane;
          for (int64_t c = 0; c < columns; ++c, to += page.colours) {
            for (int64_t k = 0; k < colours; ++k) {
              to[k] = unpack<T>(from, c * page.samples + k, page.bits);
            }
          }
        }
      }
    }
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

// Fewer than 8 bits are spread over the whole range; white as zero is inverted.
template <class T>
void to_full_range(std::vector<T>& pixels, const Page& page) {
  constexpr T kWhite = std::numeric_limits<T>::max();
  if (page.bits < 8) {
    const int white = (1 << page.bits) - 1;
    for (T& value : pixels) value = static_cast<T>(value * (kWhite / static_cast<T>(white)));
  }
  if (page.white_is_zero) {
    for (T& value : pixels) value = static_cast<T>(kWhite - value);
  }
}

template <class T>
Image::Pixels read_integers(TiffContext& context, const Page& page) {
  std::vector<T> pixels = read_pixels<T>(context, page);
  if constexpr (sizeof(T) <= 2) {
    if (page.has_palette) return apply_palette(context.handle, pixels, page.bits);
  }
  to_full_range(pixels, page);
  return pixels;
}

}  // namespace

TiffReader::TiffReader(const std::filesystem::path& path, int64_t max_samples)
    : context_(std::make_unique<TiffContext>()), max_samples_(max_samples) {
  // "m": not memory-mapped, because a mapped file that shrinks kills the process.
  open(TIFFOpenExt(path.c_str(), "rm", make_options(context_.get()).get()));
}

TiffReader::TiffReader(std::span<const uint8_t> bytes, int64_t max_samples)
    : context_(std::make_unique<TiffContext>()), max_samples_(max_samples) {
  context_->bytes = bytes;
  open(TIFFClientOpenExt("image", "rm", context_.get(), read_memory, refuse_write, seek_memory,
                         close_memory, size_of_memory, nullptr, nullptr,
                         make_options(context_.get()).get()));
}

TiffReader::~TiffReader() = default;

void TiffReader::open(TIFF* handle) {
  context_->handle = handle;
  require(handle != nullptr, "damaged or truncated TIFF: {}", context_->error);
  context_->error.clear();
  page_count_ = TIFFNumberOfDirectories(handle);
  // A chain of pages that breaks off would else look like a shorter stack.
  require(context_->error.empty(), "damaged or truncated TIFF after page {}: {}", page_count_,
          context_->error);
}

Image TiffReader::read(int64_t page_index) {
  TIFF* handle = context_->handle;
  context_->error.clear();
  context_->warnings_are_errors = false;
  const auto directory = static_cast<tdir_t>(page_index);
  // The next page is one step away; TIFFSetDirectory walks from the first.
  const bool found = directory == TIFFCurrentDirectory(handle) + 1
                         ? TIFFReadDirectory(handle) == 1
                         : TIFFSetDirectory(handle, directory) == 1;
  require(found, "damaged or truncated TIFF at page {}: {}", page_index, context_->error);
  const Page page = read_page_tags(handle, max_samples_);
  context_->error.clear();
  // libjpeg fills what is missing with grey and only warns.
  context_->warnings_are_errors =
      field<uint16_t>(handle, TIFFTAG_COMPRESSION, 0) == COMPRESSION_JPEG;

  Image image;
  image.height = page.height;
  image.width = page.width;
  image.channels = page.has_palette ? 3 : page.colours;
  if (page.is_float) {
    image.pixels = read_pixels<float>(*context_, page);
  } else if (page.bits <= 8) {
    image.pixels = read_integers<uint8_t>(*context_, page);
  } else if (page.bits == 16) {
    image.pixels = read_integers<uint16_t>(*context_, page);
  } else {
    image.pixels = read_integers<uint32_t>(*context_, page);
  }
  return image;
}

bool TiffReader::recognises(std::span<const uint8_t> bytes) {
  constexpr std::string_view kMagics[] = {
      {"II\x2a\0", 4}, {"MM\0\x2a", 4}, {"II\x2b\0", 4}, {"MM\0\x2b", 4}};
  return std::any_of(std::begin(kMagics), std::end(kMagics), [&](std::string_view magic) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), magic.data(), 4) == 0;
  });
}

// ---- writing -----------------------------------------------------------------------------------

TiffWriter::TiffWriter(const std::filesystem::path& path, int64_t expected_bytes)
    : file_(path), context_(std::make_unique<TiffContext>()) {
  // Below 4 GiB by what tags, strip tables and incompressible pixels may add.
  constexpr int64_t kClassicLimit = int64_t{7} << 29;
  context_->handle = TIFFOpenExt(file_.path().c_str(), expected_bytes > kClassicLimit ? "w8" : "w",
                                 make_options(context_.get()).get());
  if (context_->handle == nullptr) file_.fail_write(context_->error);
}

TiffWriter::~TiffWriter() = default;

void TiffWriter::append(const Image& page) {
  TIFF* handle = context_->handle;
  const bool is_float = std::holds_alternative<std::vector<float>>(page.pixels);
  const auto [bytes, sample_bytes] = std::visit(
      [](const auto& pixels) {
        // libtiff takes a pointer to non-const, but changes pixels only to swap bytes or to
        // predict.
        return std::pair(
            reinterpret_cast<uint8_t*>(const_cast<void*>(static_cast<const void*>(pixels.data()))),
            static_cast<int64_t>(sizeof(pixels[0])));
      },
      page.pixels);

  TIFFSetField(handle, TIFFTAG_SUBFILETYPE, FILETYPE_PAGE);
  TIFFSetField(handle, TIFFTAG_IMAGEWIDTH, static_cast<uint32_t>(page.width));
  TIFFSetField(handle, TIFFTAG_IMAGELENGTH, static_cast<uint32_t>(page.height));
  TIFFSetField(handle, TIFFTAG_SAMPLESPERPIXEL, static_cast<int>(page.channels));
  TIFFSetField(handle, TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * sample_bytes));
  TIFFSetField(handle, TIFFTAG_SAMPLEFORMAT, is_float ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT);
  TIFFSetField(handle, TIFFTAG_PHOTOMETRIC,
               page.channels == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  TIFFSetField(handle, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(handle, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  TIFFSetField(handle, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);

  const int64_t row_bytes = page.width * page.channels * sample_bytes;
  constexpr int64_t kStripBytes = 1 << 18;  // small enough to read a part, large enough to compress
  const int64_t strip_rows = std::clamp<int64_t>(kStripBytes / row_bytes, 1, page.height);
  TIFFSetField(handle, TIFFTAG_ROWSPERSTRIP, static_cast<uint32_t>(strip_rows));

  context_->error.clear();
  uint32_t strip = 0;
  for (int64_t y = 0; y < page.height; y += strip_rows, ++strip) {
    const tmsize_t size = row_bytes * std::min(strip_rows, page.height - y);
    if (TIFFWriteEncodedStrip(handle, strip, bytes + y * row_bytes, size) != size) {
      file_.fail_write(context_->error);
    }
  }
  if (TIFFWriteDirectory(handle) != 1 || !context_->error.empty()) {
    file_.fail_write(context_->error);
  }
}

void TiffWriter::finish() {
  if (context_->handle == nullptr) return;
  TIFFClose(context_->handle);
  context_->handle = nullptr;
  if (!context_->error.empty()) file_.fail_write(context_->error);
}

void TiffWriter::commit() {
  finish();
  file_.commit();
}

}  // namespace tessera
