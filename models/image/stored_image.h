// Pictures that stay where they are stored and are read and written part by part, so that they may
// be larger than memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/image/image.h"
#include "models/image/image_layout.h"
#include "models/image/pyramid.h"

namespace tessera {

// A TIFF or a Zarr store. Errors do not name it: ImageReader does.
class StoredImage {
 public:
  virtual ~StoredImage() = default;

  virtual int64_t page_count() const = 0;
  // With `stored`, the values as they lie in the file: see StoredValues.
  virtual Image read(int64_t page, StoredValues* stored = nullptr) = 0;
  // Of a page of any size: what it is, and a part of it, which lies inside.
  virtual ImageLayout layout(int64_t page) = 0;
  virtual Image read_part(int64_t page, const ImageWindow& part,
                          StoredValues* stored = nullptr) = 0;

  // Of the first page: itself, and smaller ones of the same picture. Throws Error where one of them
  // cannot be read.
  virtual std::vector<PyramidLevel> levels() = 0;
  // One of levels(), which all the above is then about; once.
  virtual void choose_level(int64_t level) = 0;
  // One channel, which is then grey. Throws Error where there is none of that number (from 0).
  virtual void choose_channel(int64_t channel) = 0;

  // Samples that read_part has decoded so far: those of whole tiles, strips or chunks.
  int64_t samples_decoded() const { return samples_decoded_; }

 protected:
  int64_t samples_decoded_ = 0;
};

// One grey picture of any size, written in tiles and in any order; appears whole or not at all, and
// then outlives a loss of power. Below it smaller levels on request, of every second row and column
// of the one before: class ids have no mean.
class TiledWriter {
 public:
  static constexpr int64_t kTile = 512;  // pixels a side

  virtual ~TiledWriter() = default;
  TiledWriter(const TiledWriter&) = delete;
  TiledWriter& operator=(const TiledWriter&) = delete;

  // One tile or several, each once: `part` begins with pixel (y, x), multiples of kTile, and its
  // sides are multiples too or end with the picture.
  void write(int64_t y, int64_t x, const Image& part);
  void finish();              // smaller levels and the last bytes; commit() then only
  virtual void commit() = 0;  // gives the picture its name
  // Where it lies until then, to be read once it is finished.
  virtual const std::filesystem::path& path() const = 0;

 protected:
  // `like` has the picture's type of pixels, `target` is what errors call it.
  TiledWriter(const std::filesystem::path& target, int64_t height, int64_t width,
              const Image::Pixels& like, int64_t smaller_levels);

  // One level after the other: begin_level of the first is the writer's own business.
  virtual void begin_level(int64_t level, int64_t height, int64_t width) = 0;
  // The tile of that row and column of tiles, whole: zeros beyond the picture's end. `bytes` may
  // be changed.
  virtual void put_tile(int64_t row, int64_t column, std::span<uint8_t> bytes) = 0;
  virtual void end_level() = 0;
  virtual std::unique_ptr<StoredImage> open_level(int64_t level) = 0;  // one that has ended
  virtual void end() = 0;

  int64_t smaller_levels() const { return smaller_levels_; }
  int64_t tile_bytes() const { return static_cast<int64_t>(tile_.size()); }

 private:
  void start(int64_t height, int64_t width);
  void end_complete_level();

  std::filesystem::path target_;
  int64_t level_height_ = 0, level_width_ = 0;  // of the level that is written
  int64_t missing_ = 0;                         // tiles of it
  int64_t smaller_levels_;
  bool finished_ = false;
  std::vector<uint8_t> tile_;
};

}  // namespace tessera
