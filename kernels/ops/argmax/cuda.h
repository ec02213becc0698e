// The CUDA path of Argmax: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct ArgmaxArgs {
  const void* x;         // (rows, c) of `dtype`
  std::uint8_t* y;       // (rows)
  std::int64_t rows, c;  // c at most 256
  DType dtype;           // f32, bf16 or f16
};

// The length of a row up to which a lane makes a row, a warp 32 of them; above, a warp makes a row.
constexpr std::int64_t kArgmaxMostPerLane = 32;

void argmax_cuda(const ArgmaxArgs& args, CudaStream stream);

}  // namespace tessera
