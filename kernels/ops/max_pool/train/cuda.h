// The CUDA path of MaxPool's backward run: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct MaxPoolBackwardArgs {
  const void* x;            // (n, h, w, c) of `dtype`
  const void* dy;           // (n, h / 2, w / 2, c)
  void* dx;                 // (n, h, w, c)
  std::int64_t n, h, w, c;  // of x
  DType dtype;              // f32, bf16 or f16
};

void max_pool_backward_cuda(const MaxPoolBackwardArgs& args, CudaStream stream);

}  // namespace tessera
