// Backward of ConvTranspose:  g = dy where y > 0, else 0 (dy itself without relu);
//
//   dx[i] = sum over taps of W[k] g[2 i - p + k],   dW[k] = sum over pixels of x[i] g[2 i - p +
//   k]^T db = sum over pixels of g
//
// saved: x; y if relu
#pragma once

#include "kernels/backward.h"
#include "kernels/conv_transpose/conv_transpose.h"

namespace tessera {

Saved saved_for_backward(const ConvTranspose& op, Types inputs);
void backward_reference(const ConvTranspose& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const ConvTranspose& op, const CpuSetup& setup);

}  // namespace tessera
