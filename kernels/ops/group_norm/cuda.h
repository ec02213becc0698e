// The CUDA path of GroupNorm: what its launchers take.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/ops/activation/curve.h"
#include "kernels/tensor.h"

namespace tessera {

// Pixels whose sums one block makes; what an image has more of is another block's.
inline constexpr int kNormSlice = 2048;

struct GroupNormArgs {
  const void* x;       // (n, h, w, c) of `dtype`; h = 1 where there are no rows
  const float* gamma;  // (c)
  const float* beta;   // (c)
  void* y;             // (n, h, w, c)
  double* sums;        // (n, slices, 2, c): of x, then of its squares
  float* mean_scale;   // (n, 2, c): mean, then gamma / sqrt(var + eps)
  std::int64_t n, h, w, c;
  std::int64_t slices;
  std::int64_t groups, width;  // and channels of each
  double share;                // of one element in a group's mean
  double eps;
  Residual residual;
  ActivationCurve curve;
  DType dtype;  // f32, bf16 or f16
};

void group_norm_cuda(const GroupNormArgs& args, CudaStream stream);

}  // namespace tessera
