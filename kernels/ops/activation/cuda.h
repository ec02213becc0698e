// The CUDA path of Activation: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct ActivationArgs {
  const void* x;  // `count` elements of `dtype`, at a multiple of 16 bytes
  void* y;        // likewise
  std::int64_t count;
  DType dtype;  // f32, bf16 or f16
};

void relu_cuda(const ActivationArgs& args, CudaStream stream);
void sigmoid_cuda(const ActivationArgs& args, CudaStream stream);

}  // namespace tessera
