#include "models/image/scratch_picture.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/files/scratch_file.h"
#include "kernels/error.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

// Calls step(done, left) until all bytes are done; false where it fails or there are no more.
template <class Step>
bool all_bytes(size_t bytes, const Step& step) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t some = step(done, bytes - done);
    if (some < 0 && errno == EINTR) continue;
    if (some <= 0) return false;
    done += static_cast<size_t>(some);
  }
  return true;
}

}  // namespace

ScratchPicture::ScratchPicture(const fs::path& folder, int64_t width, int64_t channels,
                               const Image::Pixels& like)
    : folder_(folder), width_(width), channels_(channels) {
  std::visit(
      [&]<class T>(const std::vector<T>&) {
        like_ = std::vector<T>();
        pixel_bytes_ = channels * static_cast<int64_t>(sizeof(T));
      },
      like);
  file_ = open_scratch_file(folder);
}

ScratchPicture::~ScratchPicture() {
  ::close(file_);
}

void ScratchPicture::write(int64_t y, int64_t x, const Image& part) {
  require(part.pixels.index() == like_.index() && part.channels == channels_ && x >= 0 &&
              part.width <= width_ - x,
          "a part of {} x {} x {} at column {} of a scratch picture of {} columns and {} channels",
          part.height, part.width, part.channels, x, width_, channels_);
  const char* const pixels =
      std::visit([](const auto& samples) { return reinterpret_cast<const char*>(samples.data()); },
                 part.pixels);
  // Whole rows lie behind one another.
  const int64_t rows = part.width == width_ ? part.height : 1;
  const auto bytes = static_cast<size_t>(rows * part.width * pixel_bytes_);
  for (int64_t row = 0; row < part.height; row += rows) {
    const char* const from = pixels + row * part.width * pixel_bytes_;
    const bool written = all_bytes(bytes, [&](size_t done, size_t left) {
      return ::pwrite(file_, from + done, left, static_cast<off_t>(place(y + row, x) + done));
    });
    require(written,
            "cannot write pixels that wait to a scratch file in '{}': {}; free space there",
            folder_.string(), std::strerror(errno));
  }
}

Image ScratchPicture::read(const ImageWindow& part) const {
  Image image{part.y1 - part.y0, part.x1 - part.x0, channels_, {}};
  const int64_t rows = image.width == width_ ? image.height : 1;
  const auto bytes = static_cast<size_t>(rows * image.width * pixel_bytes_);
  std::visit(
      [&]<class T>(const std::vector<T>&) {
        std::vector<T> pixels(static_cast<size_t>(image.samples()));
        for (int64_t row = 0; row < image.height; row += rows) {
          char* const to =
              reinterpret_cast<char*>(pixels.data()) + row * image.width * pixel_bytes_;
          const uint64_t from = place(part.y0 + row, part.x0);
          const bool read = all_bytes(bytes, [&](size_t done, size_t left) {
            return ::pread(file_, to + done, left, static_cast<off_t>(from + done));
          });
          require(read, "cannot read rows {} to {} back from a scratch file in '{}'", part.y0,
                  part.y1, folder_.string());
        }
        image.pixels = std::move(pixels);
      },
      like_);
  return image;
}

void ScratchPicture::forget(int64_t begin, int64_t end) {
  if (begin >= end) return;
  // What cannot be given back costs disk until the end, and no more.
  [[maybe_unused]] const int ignored = ::fallocate(
      file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(place(begin, 0)),
      static_cast<off_t>(place(end, 0) - place(begin, 0)));
}

}  // namespace tessera
