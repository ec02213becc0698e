// Backward of ConvTranspose:  g = dy where y > 0, else 0 (dy itself without relu);
//
//   dx[i] = sum over taps of W[k] g[2 i - p + k]
//   dW[k] = sum over pixels of x[i] g[2 i - p + k]^T
//   db    = sum over pixels of g
//
// with p = 0 of a 2x2 kernel, 1 of a 3x3 one. Of another window (on the CPU alone): dx is a
// convolution of g, and dW that of one whose maps are exchanged.
// saved: x; y if relu. f32 on the CPU and in the reference; f32, bf16 or f16 on a GPU, where x and
// y may have different types.
#pragma once

#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const ConvTranspose& op, Types inputs);
void backward_reference(const ConvTranspose& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const ConvTranspose& op, const CpuSetup& setup);
void require_f32_training(const ConvTranspose& op, Types inputs);  // what the two above take
TrainStep cuda_train(const ConvTranspose& op, const CudaSetup& setup);
BackwardStep cuda_backward(const ConvTranspose& op, const CudaSetup& setup);

}  // namespace tessera
