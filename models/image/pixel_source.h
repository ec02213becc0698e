// The pixels of an image that need not fit into memory, a rectangle at a time.
//
// Of a TIFF, tiled or in strips, and of a Zarr store each rectangle is read from the file when it
// is asked for; an image of another format is held whole. Rows that are not compressed are read
// where they lie; of all else whole tiles or strips are decoded, so that tiles serve windows better
// than strips.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "models/image/image_io.h"
#include "models/image/scratch_picture.h"

namespace tessera {

// The layout of a picture whose windows can be read without all of it: in parts, and with tiles or
// strips that take no more memory than a window should. Of another picture none.
std::optional<ImageLayout> layout_for_windows(ImageReader& reader);

class PixelSource {
 public:
  // The first page of a file, or that which the reader was told to choose. Throws Error where
  // another page is no mere thumbnail of it, or its chunks are too large.
  explicit PixelSource(ImageReader reader);

  const ImageLayout& layout() const { return layout_; }
  std::uint64_t pixel_bytes() const {
    return static_cast<std::uint64_t>(layout_.channels * layout_.sample_bytes);
  }

  // `part` lies inside the image. Beside its pixels little more is held: the rectangle read before,
  // whose part of this one is not decoded again, until this one is there. `next`, the one to be
  // read behind it, tells which rows of a scratch picture are done with.
  std::shared_ptr<const Image> read(const ImageWindow& part, const ImageWindow& next = {});

  // That `windows` are what will be read, in this order, from above to below. Where tiles or strips
  // would be decoded more often than kMostReads, all that they hold is decoded once instead, and
  // the rows that windows still read wait in a ScratchPicture in `folder`. `pixels`: those that the
  // windows are read for.
  void expect(std::span<const ImageWindow> windows, int64_t pixels,
              const std::filesystem::path& folder);
  static constexpr double kMostReads = 1.2;

  // Gives all rows, from the first to the last, some at a time: few MiB, or a row. With a folder,
  // those of large chunks wait in a scratch picture there; else a row of chunks is held at once.
  void read_rows(const std::function<void(const Image& rows)>& take,
                 const std::filesystem::path& folder = {});

  // The most bytes that reading takes beside what it gives.
  std::uint64_t bytes_beside() const;

  // Pixels decoded so far: those of whole tiles, strips and chunks.
  int64_t pixels_read() const { return reader_.samples_decoded() / layout_.channels; }

 private:
  Image load(const ImageWindow& part);
  // Loaded some chunks at a time, but for what the rectangle before has of it.
  Image gather(const ImageWindow& part);
  // Pixels that read would decode of these.
  int64_t pixels_to_decode(std::span<const ImageWindow> windows) const;
  // Has rows [y0, y1) in the scratch picture.
  void decode_rows(int64_t y0, int64_t y1);
  // That what waits above row `end` is done with.
  void forget_rows(int64_t end);
  // Whole chunks, of few MiB where one is not larger, from one that begins at (y, x).
  ImageWindow decoded_at_once(int64_t y, int64_t x) const;

  ImageReader reader_;
  ImageLayout layout_;
  Image whole_;                          // of a format that is not read in parts
  std::shared_ptr<const Image> before_;  // what was read last, where it may serve the next
  ImageWindow before_at_;
  bool waits_on_disk_ = false;
  std::filesystem::path folder_;
  std::unique_ptr<ScratchPicture> scratch_;
  int64_t scratch_begin_ = 0, scratch_end_ = 0;  // rows that wait
};

}  // namespace tessera
