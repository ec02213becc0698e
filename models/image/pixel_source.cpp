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

bool has_small_chunks(const ImageLayout& layout) {
  return layout.chunk_height * layout.chunk_width * layout.channels * layout.sample_bytes <=
         kMostChunkBytes;
}

}  // namespace

std::optional<ImageLayout> layout_for_windows(ImageReader& reader) {
  if (!reader.reads_parts()) return std::nullopt;
  const ImageLayout layout = reader.layout();
  return has_small_chunks(layout) ? std::optional(layout) : std::nullopt;
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
  if (reader_.reads_parts()) return reader_.read_part(part);
  Image image{rows_of(part), columns_of(part), whole_.channels, {}};
  std::visit(
      [&]<class T>(const std::vector<T>&) {
        std::vector<T> pixels(static_cast<size_t>(image.samples()));
        copy_part(whole_, 0, 0, part, image.width, pixels.data());
        image.pixels = std::move(pixels);
      },
      whole_.pixels);
  return image;
}

Image PixelSource::gather(const ImageWindow& part) {
  Image image{rows_of(part), columns_of(part), layout_.channels, {}};
  const auto add = [&](const Image& from, const ImageWindow& at, const ImageWindow& wanted) {
    std::visit(
        [&]<class T>(const std::vector<T>&) {
          if (wanted.y0 == part.y0 && wanted.x0 == part.x0)  // the first
            image.pixels = std::vector<T>(static_cast<size_t>(image.samples()));
          copy_part(
              from, at.y0, at.x0, wanted, image.width,
              std::get<std::vector<T>>(image.pixels).data() +
                  ((wanted.y0 - part.y0) * image.width + wanted.x0 - part.x0) * image.channels);
        },
        from.pixels);
  };
  ImageWindow rest = part;
  if (before_ && before_at_.y0 <= part.y0 && part.y1 <= before_at_.y1 && before_at_.x0 <= part.x0 &&
      part.x0 < before_at_.x1) {
    rest.x0 = std::min(before_at_.x1, part.x1);
    add(*before_, before_at_, {part.y0, part.x0, part.y1, rest.x0});
  }
  for (int64_t y = rest.y0; y < rest.y1 && rest.x0 < rest.x1;) {
    int64_t end = y;
    for (int64_t x = rest.x0; x < rest.x1;) {
      const ImageWindow some =
          common_part(decoded_at_once(y / layout_.chunk_height * layout_.chunk_height,
                                      x / layout_.chunk_width * layout_.chunk_width),
                      rest);
      add(load(some), some, some);
      x = some.x1;
      end = some.y1;
    }
    y = end;
  }
  return image;
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

std::shared_ptr<const Image> PixelSource::read(const ImageWindow& part, const ImageWindow& next) {
  if (waits_on_disk_) {
    before_ = nullptr;
    decode_rows(part.y0, part.y1);
    auto pixels = std::make_shared<const Image>(scratch_->read(part));
    forget_rows(next.y0);
    return pixels;
  }
  before_ = std::make_shared<const Image>(reader_.reads_parts() ? gather(part) : load(part));
  before_at_ = part;
  return before_;
}

void PixelSource::read_rows(const std::function<void(const Image&)>& take,
                            const std::filesystem::path& folder) {
  const int64_t row_bytes = layout_.width * static_cast<int64_t>(pixel_bytes());
  const int64_t some = std::max<int64_t>(1, kBytesAtOnce / row_bytes);
  const bool waits = !folder.empty() && reader_.reads_parts() && some < layout_.chunk_height;
  if (waits && !scratch_) folder_ = folder;
  const int64_t rows =
      waits ? some : std::max<int64_t>(1, some / layout_.chunk_height) * layout_.chunk_height;
  for (int64_t y = 0; y < layout_.height; y += rows) {
    const ImageWindow part{y, 0, std::min(y + rows, layout_.height), layout_.width};
    if (waits) {
      decode_rows(part.y0, part.y1);
      take(scratch_->read(part));
      forget_rows(part.y1);
    } else {
      take(load(part));
    }
  }
}

void PixelSource::forget_rows(int64_t end) {
  const int64_t done = std::min(end, scratch_end_);
  if (done <= scratch_begin_) return;
  scratch_->forget(scratch_begin_, done);
  scratch_begin_ = done;
}

uint64_t PixelSource::bytes_beside() const {
  if (!reader_.reads_parts()) return 0;
  // Pixels of whole chunks, and one chunk as it is decoded.
  const ImageWindow some = decoded_at_once(0, 0);
  return static_cast<uint64_t>(rows_of(some) * columns_of(some) +
                               layout_.chunk_height * layout_.chunk_width) *
         pixel_bytes();
}

}  // namespace tessera
