// Backward of Conv (without norm, concat and pool: in training those are nodes of their own):
//
//   g  = dy where y > 0, else 0       if relu; else dy
//   dx = g * W rotated by 180 degrees, its channel axes exchanged
//   dW[o, i, ky, kx] = sum over pixels of g[y, x, o] x[y + ky - pad, x + kx - pad, i]
//   db = sum over pixels of g
//
// saved: x; y if relu. f32 on the CPU and in the reference; f32, bf16 or f16 on a GPU, where x and
// y may have different types.
#pragma once

#include "kernels/ops/conv/geometry.h"
#include "kernels/train/backward.h"

namespace tessera {

inline constexpr char kConvTrainingTerms[] =
    "conv: in training it is f32, without norm, concat and pool; build the graph without the "
    "passes "
    "that fuse them";

// Whether its window is one that every back-end has backward kernels for: k x k of stride 1, valid
// or same, without groups.
bool is_plain(const Conv& op);
// Throws Error where it is not: the CPU trains any window.
void require_plain(const Conv& op);
Saved saved_for_backward(const Conv& op, Types inputs);
void backward_reference(const Conv& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Conv& op, const CpuSetup& setup);
TrainStep cuda_train(const Conv& op, const CudaSetup& setup);
BackwardStep cuda_backward(const Conv& op, const CudaSetup& setup);

// The CPU techniques for dW. `run` adds to `weight_gradient` (c_out, c_in, k, k).
struct ConvWeightGradient {
  std::size_t scratch_bytes = 0;
  std::function<void(const TensorView& x, const float* gradient, float* weight_gradient,
                     std::byte* scratch)>
      run;
};
ConvWeightGradient conv_direct_weight_gradient(const Conv& op, const ConvGeometry& geometry,
                                               int threads);
ConvWeightGradient conv_winograd_weight_gradient(const ConvGeometry& geometry, int threads);

}  // namespace tessera
