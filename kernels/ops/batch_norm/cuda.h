// The CUDA path of BatchNorm: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct BatchNormArgs {
  const void* x;             // (pixels, c) of `dtype`
  const float* scale_shift;  // (2, c): scale, then shift
  void* y;                   // (pixels, c)
  std::int64_t pixels, c;
  DType dtype;  // f32, bf16 or f16
};

void batch_norm_cuda(const BatchNormArgs& args, CudaStream stream);

}  // namespace tessera
