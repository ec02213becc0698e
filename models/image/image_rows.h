// An image's rows on their way to the floats a network reads, some at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/image/image.h"

namespace tessera {

// (x - offset) / divisor.
struct LinearScale {
  float offset = 0, divisor = 1;
};

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
  void convert(int64_t begin, int64_t end, std::span<float> out) const;
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
