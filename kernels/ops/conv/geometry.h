// The extents of one convolution and where its input pixels lie: what every technique and the
// reference derive from the attributes and the input types.
#pragma once

#include <vector>

#include "kernels/ops/conv/conv.h"

namespace tessera {

// One tensor that the joined input consists of. Pixel (y, x) of the joined map is its pixel
// (y + dy, x + dx), zero outside of it.
struct ConvSource {
  std::size_t input = 0;  // index among the operands
  std::int64_t h = 0, w = 0, c = 0;
  std::int64_t dy = 0, dx = 0;
};

struct ConvGeometry {
  std::int64_t n = 0, h = 0, w = 0, c_in = 0;  // of the joined input
  std::int64_t ho = 0, wo = 0, c_out = 0;
  Window window;
  std::int64_t top = 0, left = 0;   // pads
  std::vector<ConvSource> sources;  // in channel order
};

// Throws Error where attributes and inputs do not fit each other.
ConvGeometry geometry_of(const Conv& op, Types inputs);

}  // namespace tessera
