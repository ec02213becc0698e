// Backward of Softmax:  dx_k = y_k (dy_k - sum_j dy_j y_j).  Training mostly takes the loss from
// the logits (kernels/loss), which needs no softmax. On a GPU dx has x's type; y and dy are f32.
//
// saved: y
#pragma once

#include "kernels/ops/softmax/softmax.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Softmax& op, Types inputs);
void backward_reference(const Softmax& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Softmax& op, const CpuSetup& setup);
BackwardStep cuda_backward(const Softmax& op, const CudaSetup& setup);

}  // namespace tessera
