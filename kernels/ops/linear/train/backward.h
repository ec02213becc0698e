// Backward of Linear:  dx = dy W,  dW = dy^T x,  db = sum over rows of dy.
//
// saved: x
#pragma once

#include "kernels/ops/linear/linear.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Linear& op, Types inputs);
void backward_reference(const Linear& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Linear& op, const CpuSetup& setup);
TrainStep cuda_train(const Linear& op, const CudaSetup& setup);
BackwardStep cuda_backward(const Linear& op, const CudaSetup& setup);

}  // namespace tessera
