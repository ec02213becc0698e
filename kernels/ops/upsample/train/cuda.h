// The CUDA path of Upsample's backward run: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct UpsampleBackwardArgs {
  const void* dy;           // (n, 2h, 2w, c) of `dtype`
  void* dx;                 // (n, h, w, c)
  std::int64_t n, h, w, c;  // of dx
  bool align_corners;
  DType dtype;  // f32, bf16 or f16
};

void upsample_backward_cuda(const UpsampleBackwardArgs& args, CudaStream stream);

}  // namespace tessera
