#include "models/image/stored_image.h"

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace tessera {

namespace {

// Every second row and column.
template <class T>
std::vector<T> halved(const std::vector<T>& pixels, int64_t height, int64_t width) {
  std::vector<T> half;
  for (int64_t y = 0; y < height; y += 2)
    for (int64_t x = 0; x < width; x += 2)
      half.push_back(pixels[static_cast<size_t>(y * width + x)]);
  return half;
}

}  // namespace

TiledWriter::TiledWriter(const std::filesystem::path& target, int64_t height, int64_t width,
                         const Image::Pixels& like, int64_t smaller_levels)
    : target_(target), smaller_levels_(smaller_levels) {
  const size_t sample = std::visit([](const auto& pixels) { return sizeof(pixels[0]); }, like);
  tile_.resize(static_cast<size_t>(kTile * kTile) * sample);
  start(height, width);
}

void TiledWriter::start(int64_t height, int64_t width) {
  level_height_ = height;
  level_width_ = width;
  missing_ = ((height - 1) / kTile + 1) * ((width - 1) / kTile + 1);
}

void TiledWriter::write(int64_t y, int64_t x, const Image& part) {
  const auto ends_well = [](int64_t begin, int64_t size, int64_t all) {
    return begin % kTile == 0 && size > 0 &&
           (size % kTile == 0 ? begin + size <= all : begin + size == all);
  };
  require(ends_well(y, part.height, level_height_) && ends_well(x, part.width, level_width_) &&
              part.channels == 1,
          "a part of {} x {} x {} at {}, {} is no tiles of a picture of {} x {}", part.height,
          part.width, part.channels, y, x, level_height_, level_width_);
  const auto fill_tile = [&](const auto& pixels, int64_t top, int64_t left) {
    const size_t sample = sizeof(pixels[0]);
    std::ranges::fill(tile_, uint8_t{0});
    const int64_t rows = std::min(kTile, part.height - top);
    const int64_t columns = std::min(kTile, part.width - left);
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(tile_.data() + static_cast<size_t>(row * kTile) * sample,
                  pixels.data() + (top + row) * part.width + left,
                  static_cast<size_t>(columns) * sample);
  };
  for (int64_t top = 0; top < part.height; top += kTile) {
    for (int64_t left = 0; left < part.width; left += kTile, --missing_) {
      std::visit([&](const auto& pixels) { fill_tile(pixels, top, left); }, part.pixels);
      put_tile((y + top) / kTile, (x + left) / kTile, tile_);
    }
  }
}

void TiledWriter::end_complete_level() {
  require(missing_ == 0, "'{}' lacks {} tiles", target_.string(), missing_);
  end_level();
}

void TiledWriter::finish() {
  if (finished_) return;
  end_complete_level();
  for (int64_t level = 1; level <= smaller_levels_; ++level) {
    const std::unique_ptr<StoredImage> larger = open_level(level - 1);
    const int64_t full_height = level_height_, full_width = level_width_;
    start((full_height + 1) / 2, (full_width + 1) / 2);
    begin_level(level, level_height_, level_width_);
    for (int64_t y = 0; y < full_height; y += 2 * kTile) {
      for (int64_t x = 0; x < full_width; x += 2 * kTile) {
        const Image part = larger->read_part(
            0, {y, x, std::min(y + 2 * kTile, full_height), std::min(x + 2 * kTile, full_width)});
        Image half{(part.height + 1) / 2, (part.width + 1) / 2, 1, {}};
        std::visit(
            [&](const auto& pixels) { half.pixels = halved(pixels, part.height, part.width); },
            part.pixels);
        write(y / 2, x / 2, half);
      }
    }
    end_complete_level();
  }
  end();
  finished_ = true;
}

}  // namespace tessera
