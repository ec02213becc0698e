// The CUDA path of Activation's backward run: what its launchers take.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct ActivationBackwardArgs {
  const void* y;   // `count` elements of `dtype`, at a multiple of 16 bytes
  const void* dy;  // likewise
  void* dx;        // likewise
  std::int64_t count;
  DType dtype;  // f32, bf16 or f16
};

void relu_backward_cuda(const ActivationBackwardArgs& args, CudaStream stream);
void sigmoid_backward_cuda(const ActivationBackwardArgs& args, CudaStream stream);

}  // namespace tessera
