// The pixels of an image that need not fit into memory, a rectangle at a time.
//
// Of a TIFF, tiled or in strips, and of a Zarr store each rectangle is read from the file when it
// is asked for; an image of another format is held whole. Rows that are not compressed are read
// where they lie; of all else whole tiles or strips are decoded, so that tiles serve windows better
// than strips.
#pragma once

#include <functional>

#include "models/image/image_io.h"

namespace tessera {

class PixelSource {
 public:
  // The first page of a file, or that which the reader was told to choose. Throws Error where
  // another page is no mere thumbnail of it, and where its tiles or strips are so large that
  // decoding one takes more memory than a window should.
  explicit PixelSource(ImageReader reader);

  const ImageLayout& layout() const { return layout_; }
  std::uint64_t pixel_bytes() const {
    return static_cast<std::uint64_t>(layout_.channels * layout_.sample_bytes);
  }

  // `part` lies inside the image. What it has in common with `next`, the rectangle to be read
  // behind it, is kept for that.
  Image read(const ImageWindow& part, const ImageWindow& next = {});

  // Gives all rows, from the first to the last, some at a time.
  void read_rows(const std::function<void(const Image& rows)>& take);

  // Pixels decoded so far: those of whole tiles, strips and chunks.
  int64_t pixels_read() const { return reader_.samples_decoded() / layout_.channels; }

 private:
  Image load(const ImageWindow& part);

  ImageReader reader_;
  ImageLayout layout_;
  Image whole_;  // of a format that is not read in parts
  Image kept_;
  ImageWindow kept_at_;
};

}  // namespace tessera
