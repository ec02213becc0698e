// Tensor maps: how TMA (ptx::tma_load, ptx::tma_store) finds boxes of a tensor in global memory.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace tessera {

// Axes innermost first; strides in bytes, of axes 1 and up, multiples of 16, as `base` is.
struct TensorMapLayout {
  static constexpr int kMostAxes = 5;
  const void* base;
  DType dtype;
  int rank;
  std::int64_t extent[kMostAxes], stride[kMostAxes - 1];
  int box[kMostAxes];  // elements of a copy; along axis 0 they are 128 bytes at most
};

// A map whose boxes lie in shared memory with the 128-byte swizzle, zero outside of the tensor.
// Throws DeviceError where the driver refuses.
CUtensorMap tensor_map(const TensorMapLayout& layout);

}  // namespace tessera
