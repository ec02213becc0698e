#include "models/image/pixel_source.h"

#include <algorithm>

#include "kernels/error.h"

namespace tessera {

namespace {

// A window must have room beside what is decoded for it.
constexpr int64_t kMostChunkBytes = int64_t{1} << 27;
// Rows are read and decoded so many bytes at a time, where chunks are not larger.
constexpr int64_t kBytesAtOnce = int64_t{1} << 22;

int64_t rows_of(const ImageWindow& part) {
  return part.y1 - part.y0;
}
int64_t columns_of(const ImageWindow& part) {
  return part.x1 - part.x0;
}

ImageWindow common_part(const ImageWindow& a, const ImageWindow& b) {
  ImageWindow both{std::max(a.y0, b.y0), std::max(a.x0, b.x0), std::min(a.y1, b.y1),
                   std::min(a.x1, b.x1)};
  if (both.y0 >= both.y1 || both.x0 >= both.x1) both = {};
  return both;
}

// Copies `part` of `from`, which begins at pixel (`y`, `x`), to a picture of `width` columns.
template <class T>
void copy_part(const Image& from, int64_t y, int64_t x, const ImageWindow& part, int64_t width,
               T* to) {
  const T* const pixels = std::get<std::vector<T>>(from.pixels).data();
  for (int64_t row = part.y0; row < part.y1; ++row, to += width * from.channels) {
    std::copy_n(pixels + ((row - y) * from.width + part.x0 - x) * from.channels,
                columns_of(part) * from.channels, to);
  }
}

// `part` of a picture whose columns before those of `right` are in `left`; either may be empty, and
// begins at its `at`.
Image side_by_side(const Image& left, const ImageWindow& left_at, const Image& right,
                   const ImageWindow& part) {
  const Image& one = left.samples() > 0 ? left : right;
  Image image{rows_of(part), columns_of(part), one.channels, {}};
  std::visit(
      [&]<class T>(const std::vector<T>&) {
        std::vector<T> pixels(static_cast<size_t>(image.samples()));
        const int64_t split = part.x1 - right.width;
        if (split > part.x0)
          copy_part(left, left_at.y0, left_at.x0, {part.y0, part.x0, part.y1, split}, image.width,
                    pixels.data());
        if (right.width > 0)
          copy_part(right, part.y0, split, {part.y0, split, part.y1, part.x1}, image.width,
                    pixels.data() + (split - part.x0) * image.channels);
        image.pixels = std::move(pixels);
      },
      one.pixels);
  return image;
}

}  // namespace

bool has_small_chunks(const ImageLayout& layout) {
  return layout.chunk_height * layout.chunk_width * layout.channels * layout.sample_bytes <=
         kMostChunkBytes;
}

PixelSource::PixelSource(ImageReader reader) : reader_(std::move(reader)) {
  if (!reader_.reads_parts()) {
    whole_ = reader_.read();
    const auto bytes =
        std::visit([](const auto& pixels) { return sizeof(pixels[0]); }, whole_.pixels);
    layout_ = {whole_.height, whole_.width, whole_.channels, static_cast<int64_t>(bytes)};
    return;
  }
  layout_ = reader_.layout();
  const int64_t pages = reader_.page_count();
  constexpr int64_t kThumbnail = 4;  // times smaller
  for (int64_t page = 1; page < pages; ++page) {
    const ImageLayout other = reader_.layout(page);
    require(
        other.height <= layout_.height / kThumbnail && other.width <= layout_.width / kThumbnail,
        "image '{}' is a stack of {} pages (the first of {} x {} pixels, page {} of {} x {}), and "
        "one picture is made in windows: choose one with --page, or name a folder, -o FOLDER, "
        "without --windows, for the masks of all pages",
        reader_.name(), pages, layout_.height, layout_.width, page, other.height, other.width);
  }
  require(has_small_chunks(layout_),
          "image '{}' is compressed in pieces of {} x {} pixels, which are decoded whole and may "
          "have {} bytes each; save it in tiles, of 512 x 512 say",
          reader_.name(), layout_.chunk_height, layout_.chunk_width, kMostChunkBytes);
}

Image PixelSource::load(const ImageWindow& part) {
  if (!reader_.reads_parts()) return side_by_side(whole_, {}, {}, part);
  return reader_.read_part(part);
}

int64_t PixelSource::pixels_to_decode(std::span<const ImageWindow> windows) const {
  int64_t pixels = 0;
  ImageWindow before;
  for (const ImageWindow& window : windows) {
    ImageWindow rest = window;
    if (before.y0 == window.y0 && before.y1 == window.y1 && before.x0 <= window.x0)
      rest.x0 = std::max(window.x0, std::min(before.x1, window.x1));
    pixels += whole_chunks(rest.y0, rest.y1, layout_.chunk_height, layout_.height) *
              whole_chunks(rest.x0, rest.x1, layout_.chunk_width, layout_.width);
    before = window;
  }
  return pixels;
}

void PixelSource::expect(std::span<const ImageWindow> windows, int64_t pixels,
                         const std::filesystem::path& folder) {
  waits_on_disk_ = reader_.reads_parts() && static_cast<double>(pixels_to_decode(windows)) >
                                                kMostReads * static_cast<double>(pixels);
  folder_ = folder;
}

ImageWindow PixelSource::decoded_at_once(int64_t y, int64_t x) const {
  const auto pixels = static_cast<int64_t>(pixel_bytes());
  // Of small chunks a row of them, and of strips of a row some.
  const int64_t columns =
      std::max<int64_t>(1, kBytesAtOnce / (layout_.chunk_height * layout_.chunk_width * pixels)) *
      layout_.chunk_width;
  const int64_t width = std::min(columns, layout_.width);
  const int64_t rows =
      std::max<int64_t>(1, kBytesAtOnce / (width * pixels) / layout_.chunk_height) *
      layout_.chunk_height;
  return {y, x, std::min(y + rows, layout_.height), std::min(x + width, layout_.width)};
}

void PixelSource::decode_rows(int64_t y0, int64_t y1) {
  if (y0 < scratch_begin_ || y0 > scratch_end_) {
    if (scratch_) scratch_->forget(scratch_begin_, scratch_end_);
    scratch_begin_ = scratch_end_ = y0 / layout_.chunk_height * layout_.chunk_height;
  }
  while (scratch_end_ < y1) {
    const int64_t y = scratch_end_;
    int64_t end = y;
    for (int64_t x = 0; x < layout_.width;) {
      const ImageWindow some = decoded_at_once(y, x);
      const Image pixels = load(some);
      if (!scratch_)
        scratch_ = std::make_unique<ScratchPicture>(folder_, layout_.width, layout_.channels,
                                                    pixels.pixels);
      scratch_->write(y, x, pixels);
      x = some.x1;
      end = some.y1;
    }
    scratch_end_ = end;  // now that all columns are there
  }
}

Image PixelSource::read(const ImageWindow& part, const ImageWindow& next) {
  if (waits_on_disk_) {
    decode_rows(part.y0, part.y1);
    Image pixels = scratch_->read(part);
    const int64_t done = std::min(next.y0, scratch_end_);
    if (scratch_begin_ < done) {
      scratch_->forget(scratch_begin_, done);
      scratch_begin_ = done;
    }
    return pixels;
  }
  const bool begins_kept = kept_at_.y0 <= part.y0 && part.y1 <= kept_at_.y1 &&
                           kept_at_.x0 <= part.x0 && part.x0 < kept_at_.x1;
  Image image;
  if (begins_kept) {
    ImageWindow rest = part;
    rest.x0 = std::min(kept_at_.x1, part.x1);
    image = side_by_side(kept_, kept_at_, rest.x0 < rest.x1 ? load(rest) : Image{}, part);
  } else {
    image = load(part);
  }
  kept_ = {};
  kept_at_ = common_part(part, next);
  if (rows_of(kept_at_) > 0) kept_ = side_by_side(image, part, {}, kept_at_);
  return image;
}

void PixelSource::read_rows(const std::function<void(const Image&)>& take) {
  // Whole rows of tiles, and of what has small ones some more.
  const int64_t row_bytes = layout_.width * layout_.channels * layout_.sample_bytes;
  const int64_t chunks = std::max<int64_t>(1, kBytesAtOnce / row_bytes / layout_.chunk_height);
  const int64_t rows = chunks * layout_.chunk_height;
  for (int64_t y = 0; y < layout_.height; y += rows)
    take(load({y, 0, std::min(y + rows, layout_.height), layout_.width}));
}

}  // namespace tessera
