// The CUDA path of Reduce: what its launcher takes.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/cuda/strided.h"
#include "kernels/tensor.h"

namespace tessera {

enum class ReduceFunction : std::uint8_t { kMean, kSum, kMax, kMin };

struct ReduceArgs {
  const void* x;
  void* y;                // dense, in the order of `kept`
  StridedWalk<1> kept;    // of x: the axes that stay
  StridedWalk<1> folded;  // of x: the others
  ReduceFunction function;
  DType dtype;  // f32, bf16 or f16
};

void reduce_cuda(const ReduceArgs& args, CudaStream stream);

}  // namespace tessera
