// A window of the joined, zero-padded input as one dense block: concat, crop, padding and the
// element type are dealt with here, so that the arithmetic behind it knows none of them.
#pragma once

#include "kernels/ops/conv/geometry.h"

namespace tessera {

struct Patch {
  std::int64_t n = 0, y = 0, x = 0;    // first pixel in the joined input; may lie outside
  std::int64_t rows = 0, columns = 0;  // pixels
  std::int64_t channels = 0;           // of one pixel; zeros from c_in on
};

// Writes (rows, columns, channels) elements of `dtype` (f32 or bf16).
void gather(const ConvGeometry& geometry, std::span<const TensorView> inputs, const Patch& patch,
            DType dtype, void* to);

}  // namespace tessera
