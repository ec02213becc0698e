#include <algorithm>
#include <cstring>

#include "kernels/error.h"
#include "models/image/tiff.h"
#include "models/image/tiff_context.h"

namespace tessera {

namespace {

// A BigTIFF where that many bytes of pixels want it, else the classic one that every program reads.
void open_to_write(TiffContext& context, const AtomicFile& file, int64_t expected_bytes) {
  // Below 4 GiB by what tags, strip tables and incompressible pixels may add.
  constexpr int64_t kClassicLimit = int64_t{7} << 29;
  context.open(file.path(), expected_bytes > kClassicLimit ? "w8" : "w");
  if (context.handle == nullptr) file.fail_write(context.error);
}

int64_t bytes_per_sample(const Image::Pixels& like) {
  return std::visit([](const auto& pixels) { return static_cast<int64_t>(sizeof(pixels[0])); },
                    like);
}

void describe_picture(TIFF* handle, int64_t height, int64_t width, int64_t channels,
                      const Image::Pixels& like) {
  const bool is_float = std::holds_alternative<std::vector<float>>(like);
  TIFFSetField(handle, TIFFTAG_SUBFILETYPE, FILETYPE_PAGE);
  TIFFSetField(handle, TIFFTAG_IMAGEWIDTH, static_cast<uint32_t>(width));
  TIFFSetField(handle, TIFFTAG_IMAGELENGTH, static_cast<uint32_t>(height));
  TIFFSetField(handle, TIFFTAG_SAMPLESPERPIXEL, static_cast<int>(channels));
  TIFFSetField(handle, TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * bytes_per_sample(like)));
  TIFFSetField(handle, TIFFTAG_SAMPLEFORMAT, is_float ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT);
  TIFFSetField(handle, TIFFTAG_PHOTOMETRIC,
               channels == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  TIFFSetField(handle, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(handle, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  TIFFSetField(handle, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
}

Image::Pixels empty_like(const Image::Pixels& like) {
  return std::visit(
      []<class T>(const std::vector<T>&) -> Image::Pixels { return std::vector<T>(); }, like);
}

void end_directory(TiffContext& context, const AtomicFile& file) {
  if (TIFFWriteDirectory(context.handle) != 1 || !context.error.empty())
    file.fail_write(context.error);
}

void end_file(TiffContext& context, const AtomicFile& file) {
  context.close();
  if (!context.error.empty()) file.fail_write(context.error);
}

}  // namespace

TiffWriter::TiffWriter(const std::filesystem::path& path, int64_t expected_bytes)
    : file_(path), context_(std::make_unique<TiffContext>()) {
  open_to_write(*context_, file_, expected_bytes);
}

TiffWriter::~TiffWriter() = default;

void TiffWriter::append(const Image& page) {
  TIFF* handle = context_->handle;
  uint8_t* const bytes = std::visit(
      [](const auto& pixels) {
        // libtiff takes a pointer to non-const, but changes pixels only to swap bytes or to
        // predict.
        return reinterpret_cast<uint8_t*>(
            const_cast<void*>(static_cast<const void*>(pixels.data())));
      },
      page.pixels);
  describe_picture(handle, page.height, page.width, page.channels, page.pixels);
  const int64_t row_bytes = page.width * page.channels * bytes_per_sample(page.pixels);
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
  end_directory(*context_, file_);
}

void TiffWriter::finish() {
  end_file(*context_, file_);
}

void TiffWriter::commit() {
  finish();
  file_.commit();
}

TiledTiffWriter::TiledTiffWriter(const std::filesystem::path& path, int64_t height, int64_t width,
                                 const Image::Pixels& like, bool pyramid)
    : TiledWriter(path, height, width, like, pyramid ? halvings(height, width, kTile) : 0),
      like_(empty_like(like)),
      file_(path, Durability::kPower),
      context_(std::make_unique<TiffContext>()) {
  const int64_t tiles = ((height - 1) / kTile + 1) * ((width - 1) / kTile + 1);
  open_to_write(*context_, file_, tiles * tile_bytes() * (pyramid ? 4 : 3) / 3);
  TiledTiffWriter::begin_level(0, height, width);
  if (smaller_levels() >
      0) {  // libtiff writes the next directories as these, and their places here
    const std::vector<uint64_t> places(static_cast<size_t>(smaller_levels()));
    TIFFSetField(context_->handle, TIFFTAG_SUBIFD, static_cast<int>(smaller_levels()),
                 places.data());
  }
}

TiledTiffWriter::~TiledTiffWriter() = default;

void TiledTiffWriter::begin_level(int64_t level, int64_t height, int64_t width) {
  TIFF* const handle = context_->handle;
  describe_picture(handle, height, width, 1, like_);
  TIFFSetField(handle, TIFFTAG_SUBFILETYPE, level > 0 ? FILETYPE_REDUCEDIMAGE : FILETYPE_PAGE);
  TIFFSetField(handle, TIFFTAG_TILEWIDTH, static_cast<uint32_t>(kTile));
  TIFFSetField(handle, TIFFTAG_TILELENGTH, static_cast<uint32_t>(kTile));
  context_->error.clear();
}

void TiledTiffWriter::put_tile(int64_t row, int64_t column, std::span<uint8_t> bytes) {
  const uint32_t index = TIFFComputeTile(context_->handle, static_cast<uint32_t>(column * kTile),
                                         static_cast<uint32_t>(row * kTile), 0, 0);
  const auto size = static_cast<tmsize_t>(bytes.size());
  if (TIFFWriteEncodedTile(context_->handle, index, bytes.data(), size) != size)
    file_.fail_write(context_->error);
}

void TiledTiffWriter::end_level() {
  end_directory(*context_, file_);
}

std::unique_ptr<StoredImage> TiledTiffWriter::open_level(int64_t level) {
  auto reader = std::make_unique<TiffReader>(file_.path(), kMaxSamples);
  if (level > 0) reader->choose_level(level);
  return reader;
}

void TiledTiffWriter::end() {
  end_file(*context_, file_);
}

void TiledTiffWriter::commit() {
  finish();
  file_.commit();
}

}  // namespace tessera
