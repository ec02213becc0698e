// The CUDA path of Softmax: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct SoftmaxArgs {
  const void* x;         // (rows, c) of `dtype`
  float* y;              // (rows, c)
  std::int64_t rows, c;  // c below 2^31
  DType dtype;           // f32, bf16 or f16
};

// The lengths of a row up to which each technique is taken, best first.
constexpr std::int64_t kSoftmaxMostPerLane = 32;    // a lane makes a row, a warp 32 of them
constexpr std::int64_t kSoftmaxMostPerWarp = 2048;  // a warp makes a row
                                                    // above: a block makes a row

void softmax_cuda(const SoftmaxArgs& args, CudaStream stream);

}  // namespace tessera
