// The CUDA path of Softmax's backward run: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct SoftmaxBackwardArgs {
  const float* y;        // (rows, c)
  const float* dy;       // (rows, c)
  void* dx;              // (rows, c) of `dtype`
  std::int64_t rows, c;  // c below 2^31
  DType dtype;           // f32, bf16 or f16
};

void softmax_backward_cuda(const SoftmaxBackwardArgs& args, CudaStream stream);

}  // namespace tessera
