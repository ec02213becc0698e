// The CUDA path of MaxPool: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct MaxPoolArgs {
  const void* x;            // (n, h, w, c) of `dtype`
  void* y;                  // (n, h / 2, w / 2, c)
  std::int64_t n, h, w, c;  // of x
  DType dtype;              // f32, bf16 or f16
};

void max_pool_cuda(const MaxPoolArgs& args, CudaStream stream);

}  // namespace tessera
