// The CUDA path of Resize: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

// What one output reads along an axis: input index[k] times weight[k].
struct alignas(16) ResizeTap {
  std::int32_t index[4];
  float weight[4];
};

struct ResizeArgs {
  const void* x;             // (n, h, w, c) of `dtype`
  void* y;                   // (n, ho, wo, c)
  const ResizeTap* rows;     // (ho)
  const ResizeTap* columns;  // (wo)
  std::int64_t n, h, w, c;   // of x
  std::int64_t ho, wo;
  int taps;     // of each output along an axis: 1, 2 or 4; one copies its pixel
  DType dtype;  // f32, bf16 or f16
};

void resize_cuda(const ResizeArgs& args, CudaStream stream);

}  // namespace tessera
