// An image's rows on their way to the floats a network reads, some at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "models/image/image.h"

namespace tessera {

// (x - offset) / divisor.
struct LinearScale {
  float offset = 0, divisor = 1;
};

// Whether the scale depends on all pixels: "standardize", "min_max" and a range of "auto".
bool needs_all_pixels(const Preprocessing& preprocessing);

// The scale of such a preprocessing. `each_row` calls `see` with every row from the top down, as
// RowNormaliser::convert makes them, and is called once, by "standardize" twice.
LinearScale scale_of_rows(
    const Preprocessing& preprocessing,
    const std::function<void(const std::function<void(std::span<const float> row)>& see)>&
        each_row);

// `normalise` some rows at a time, to the byte: no image lies in memory as floats. What depends on
// all pixels is found when this is made. It refers to both, which must outlive it.
class RowNormaliser {
 public:
  // Of a part of an image `whole` is what that of the whole has as its scale. Throws Error where a
  // value is not finite.
  RowNormaliser(const Image& image, const Preprocessing& preprocessing,
                std::optional<LinearScale> whole = {});

  const LinearScale& scale() const { return scale_; }

  // Writes rows [begin, end) to `out`, (end - begin, width, preprocessing.channels).
  void rows(int64_t begin, int64_t end, std::span<float> out) const;
  // The same before it is scaled.
  void convert(int64_t begin, int64_t end, std::span<float> out) const;

 private:
  const Image& image_;
  const Preprocessing& preprocessing_;
  bool clamp_ = false, divide_ = false;
  LinearScale scale_;  // applied if divide_
};

// Columns [begin, end) of a row of `width` pixels, mirrored beyond its ends, to `to`, of
// (end - begin) x channels floats. `row` begins with column `first`, and has those that are read.
void mirror_row(const float* row, int64_t first, int64_t width, int64_t channels, int64_t begin,
                int64_t end, float* to);

}  // namespace tessera
