// Pools of any window: what the launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

enum class PoolKind : std::uint8_t {
  kMax,         // NaN wins
  kMeanInside,  // of the pixels inside of the map
  kMeanPadded   // pads count as zeros
};

struct PoolArgs {
  const void* x;            // (n, h, w, c) of `dtype`
  void* y;                  // (n, ho, wo, c)
  std::int64_t n, h, w, c;  // of x
  std::int64_t ho, wo;
  int kernel[2], stride[2], dilation[2];  // rows, columns
  int before[2], behind[2];               // pads
  PoolKind kind;
  DType dtype;  // f32, bf16 or f16
};

void pool_cuda(const PoolArgs& args, CudaStream stream);

}  // namespace tessera
