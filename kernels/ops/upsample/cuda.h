// The CUDA path of Upsample: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct UpsampleArgs {
  const void* x;            // (n, h, w, c) of `dtype`
  void* y;                  // (n, ho, wo, c)
  std::int64_t n, h, w, c;  // of x
  std::int64_t ho, wo;
  // Rows, then columns: x holds those from `before` on of a map of `whole`, y those from `first` on
  // of the 2 whole.
  std::int64_t whole[2], before[2], first[2];
  bool align_corners;
  DType dtype;  // f32, bf16 or f16
};

void upsample_cuda(const UpsampleArgs& args, CudaStream stream);

}  // namespace tessera
