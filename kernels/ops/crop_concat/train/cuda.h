// The CUDA path of CropConcat's backward run: what its launcher takes, once for each source.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera {

// Pixel (i, j) of the source is pixel (i - down, j - across) of the joined map, or outside of it.
struct CropConcatBackwardArgs {
  const void* dy;              // (n, y_h, y_w, y_c)
  void* dx;                    // (n, h, w, c)
  std::int64_t n, h, w, c;     // of the source; c in bytes
  std::int64_t y_h, y_w, y_c;  // of the joined map; y_c in bytes
  std::int64_t channel;        // byte of a joined pixel where the source's channels begin
  std::int64_t down, across;
};

void crop_concat_backward_cuda(const CropConcatBackwardArgs& args, CudaStream stream);

}  // namespace tessera
