// Copies between strided tensors: what transposing, slicing, joining and reshaping have in common.
#pragma once

#include <cstddef>

#include "kernels/cuda/stream.h"
#include "kernels/cuda/strided.h"

namespace tessera {

// Strides count elements of `element_bytes`: 1, 2, 4 or 8.
struct CopyArgs {
  const void* x;
  void* y;
  StridedWalk<2> walk;  // of x, y
  std::size_t element_bytes;
};

void copy_cuda(const CopyArgs& args, CudaStream stream);

}  // namespace tessera
