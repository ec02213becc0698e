// A picture that waits on disk, uncompressed, until it is done with: in a scratch file.
#pragma once

#include <filesystem>

#include "models/image/image.h"
#include "models/image/image_layout.h"

namespace tessera {

class ScratchPicture {
 public:
  // In `folder`, with the type of pixels that `like` has. Throws Error where it cannot be made.
  ScratchPicture(const std::filesystem::path& folder, int64_t width, int64_t channels,
                 const Image::Pixels& like);
  ~ScratchPicture();
  ScratchPicture(const ScratchPicture&) = delete;
  ScratchPicture& operator=(const ScratchPicture&) = delete;

  // `part` begins with pixel (y, x). Throws Error where the disk is full.
  void write(int64_t y, int64_t x, const Image& part);
  Image read(const ImageWindow& part) const;  // that was written
  // Gives the disk space of rows back, as far as the file system can.
  void forget(int64_t begin, int64_t end);

 private:
  uint64_t place(int64_t y, int64_t x) const {
    return static_cast<uint64_t>((y * width_ + x) * pixel_bytes_);
  }

  std::filesystem::path folder_;
  int64_t width_, channels_, pixel_bytes_;
  Image::Pixels like_;  // empty
  int file_ = -1;
};

}  // namespace tessera
