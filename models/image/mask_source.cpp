#include "models/image/mask_source.h"

#include <algorithm>

#include "kernels/error.h"
#include "models/image/pixel_source.h"

namespace tessera {

namespace {

// A mask of fewer pixels comes in one piece; they take up to 32 bytes each while they are decoded.
constexpr int64_t kPixelsAtOnce = int64_t{1} << 22;
// Pixels of decoded tiles that wait for the next part, at most.
constexpr int64_t kMostKeptPixels = int64_t{1} << 26;

Image part_of(const Image& image, const ImageWindow& part) {
  Image cut{part.y1 - part.y0, part.x1 - part.x0, image.channels, {}};
  std::visit(
      [&]<class T>(const std::vector<T>& pixels) {
        std::vector<T> some;
        some.reserve(static_cast<size_t>(cut.samples()));
        for (int64_t y = part.y0; y < part.y1; ++y) {
          const auto row = pixels.begin() + y * image.width * image.channels;
          some.insert(some.end(), row + part.x0 * image.channels, row + part.x1 * image.channels);
        }
        cut.pixels = std::move(some);
      },
      image.pixels);
  return cut;
}

}  // namespace

ImageReader open_page(const std::filesystem::path& path, int64_t page) {
  ImageReader reader(path);
  if (reader.page_count() > 1) reader.choose({.page = page});
  return reader;
}

MaskSource::MaskSource(const ImagePair& pair) {
  if (!pair.held_mask) {
    ImageReader reader = open_page(pair.mask, pair.page);
    if (const std::optional<ImageLayout> layout = layout_for_windows(reader)) {
      layout_ = *layout;
      reader_.emplace(std::move(reader));
    }
  }
  if (!reader_) {
    whole_ = read_mask(pair);
    layout_ = {whole_.image.height, whole_.image.width, whole_.image.channels};
  }
  if (layout_.channels == 1) return;
  read_rows([&](int64_t y, int64_t height) {
    if (grey_) grey_ = tessera::is_grey(load({y, 0, y + height, width()}).image);
  });
}

void MaskSource::read_rows(const std::function<void(int64_t, int64_t)>& take) const {
  const int64_t rows = std::max<int64_t>(1, kPixelsAtOnce / width());
  for (int64_t y = 0; y < height(); y += rows) take(y, std::min(rows, height() - y));
}

MaskPage MaskSource::load(const ImageWindow& part) {
  const auto cut = [&](const MaskPage& from, int64_t begin) {
    const ImageWindow at{part.y0 - begin, part.x0, part.y1 - begin, part.x1};
    MaskPage page{part_of(from.image, at), {}};
    page.stored.lossy = from.stored.lossy;
    page.stored.white_is_zero = from.stored.white_is_zero;
    if (from.stored.indices) page.stored.indices = part_of(*from.stored.indices, at);
    return page;
  };
  if (!reader_) return cut(whole_, 0);
  const auto read = [&](const ImageWindow& window) {
    MaskPage page;
    page.image = reader_->read_part(window, 0, &page.stored);
    return page;
  };
  // Rows of tiles are decoded once for the parts of them that follow one another.
  const int64_t chunk = layout_.chunk_height;
  const int64_t y0 = part.y0 / chunk * chunk,
                y1 = std::min((part.y1 + chunk - 1) / chunk * chunk, height());
  const bool is_rows = part.x0 == 0 && part.x1 == width();
  if (!is_rows || chunk == 1 || (y1 - y0) * width() > kMostKeptPixels) return read(part);
  if (y0 < kept_begin_ || y1 > kept_end_) {
    kept_ = {};
    kept_begin_ = kept_end_ = 0;
    kept_ = read({y0, 0, y1, width()});
    kept_begin_ = y0;
    kept_end_ = y1;
  }
  return cut(kept_, kept_begin_);
}

MaskPage MaskSource::page(const ImageWindow& part) {
  MaskPage page = load(part);
  white_is_zero_ |= page.stored.white_is_zero;
  return page;
}

Mask MaskSource::read(const ImageWindow& part, const MaskRules& rules) {
  if (rules.kind != MaskRules::Kind::kObjects) return decode_mask(page(part), rules, grey_);
  // What touches an object lies a pixel beyond it at most.
  const ImageWindow more{std::max<int64_t>(part.y0 - 1, 0), std::max<int64_t>(part.x0 - 1, 0),
                         std::min(part.y1 + 1, height()), std::min(part.x1 + 1, width())};
  const Mask all = decode_mask(page(more), rules, grey_);
  Mask mask;
  for (int64_t y = part.y0; y < part.y1; ++y) {
    const auto first = static_cast<size_t>((y - more.y0) * (more.x1 - more.x0) + part.x0 - more.x0);
    const auto count = static_cast<size_t>(part.x1 - part.x0);
    const auto copy = [&](const auto& from, auto& to) {
      to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(first),
                from.begin() + static_cast<std::ptrdiff_t>(first + count));
    };
    copy(all.classes, mask.classes);
    copy(all.objects, mask.objects);
  }
  return mask;
}

}  // namespace tessera
