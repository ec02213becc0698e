// Backward of Activation:  ReLU dx = dy where y > 0, else 0;  sigmoid dx = dy y (1 - y).
//
// saved: y
#pragma once

#include "kernels/ops/activation/activation.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Activation& op, Types inputs);
void backward_reference(const Activation& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Activation& op, const CpuSetup& setup);
BackwardStep cuda_backward(const Activation& op, const CudaSetup& setup);

}  // namespace tessera
