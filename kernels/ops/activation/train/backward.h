// Backward of Activation:  ReLU dx = dy where y > 0, else 0;  sigmoid dx = dy y (1 - y);  the
// others dx = dy f'(x), as derivative.h has f'.  PReLU: dW_c = sum of dy x over the x below 0 of
// channel c.
//
// saved: y of ReLU and sigmoid, x of the others, which the CPU alone trains
#pragma once

#include "kernels/ops/activation/activation.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Activation& op, Types inputs);
void backward_reference(const Activation& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Activation& op, const CpuSetup& setup);
BackwardStep cuda_backward(const Activation& op, const CudaSetup& setup);

}  // namespace tessera
