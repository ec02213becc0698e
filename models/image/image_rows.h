// An image's rows on their way to the floats a network reads, some at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "models/image/image.h"

namespace tessera {

// (x - offset) / divisor.
struct LinearScale {
  float offset = 0, divisor = 1;
};

// Gives an image's rows, from the first to the last, some at a time, whenever it is called.
using ImageRows = std::function<void(const std::function<void(const Image& rows)>& take)>;

// Whether it takes something from all pixels of an image before it can do any.
bool needs_all_pixels(const Preprocessing& preprocessing);

// What preprocessing takes from all pixels, in the order of rows: how they are cut does not matter.
// `rows` is called up to twice. Throws Error where a value is not finite.
LinearScale scale_of(const ImageRows& rows, const Preprocessing& preprocessing);

// `normalise` some rows at a time, to the byte: no image lies in memory as floats. What depends on
// all pixels is found when this is made. It refers to both, which must outlive it.
class RowNormaliser {
 public:
  // Of a part of an image `whole` is what that of the whole has as its scale; steps that measure
  // need the whole. Throws Error where a value is not finite.
  RowNormaliser(const Image& image, const Preprocessing& preprocessing,
                std::optional<LinearScale> whole = {});

  const LinearScale& scale() const { return scale_; }

  // Writes rows [begin, end) to `out`, (end - begin, width, preprocessing.channels).
  void rows(int64_t begin, int64_t end, std::span<float> out) const;

 private:
  // All but the means and deviations that the model has for its channels.
  void scaled(int64_t begin, int64_t end, std::span<float> out) const;

  const Image& image_;
  const Preprocessing& preprocessing_;
  bool clamp_ = false, divide_ = false;
  LinearScale scale_;             // applied if divide_
  std::vector<PixelStep> steps_;  // that measure nothing more
};

// Columns [begin, end) of a row of `width` pixels, mirrored beyond its ends, to `to`, of
// (end - begin) x channels floats. `row` begins with column `first`, and has those that are read.
void mirror_row(const float* row, int64_t first, int64_t width, int64_t channels, int64_t begin,
                int64_t end, float* to);

}  // namespace tessera
