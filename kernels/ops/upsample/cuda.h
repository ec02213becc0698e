// The CUDA path of Upsample: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct UpsampleArgs {
  const void* x;            // (n, h, w, c) of `dtype`
  void* y;                  // (n, 2h, 2w, c)
  std::int64_t n, h, w, c;  // of x
  bool align_corners;
  DType dtype;  // f32, bf16 or f16
};

void upsample_cuda(const UpsampleArgs& args, CudaStream stream);

}  // namespace tessera
