// Backward of MaxPool: dy goes to the largest of its four pixels, the first of equals in the order
// of rows, as PyTorch does it, and a NaN counts as the largest; all other pixels get 0.
//
// saved: x
#pragma once

#include "kernels/ops/max_pool/max_pool.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const MaxPool& op, Types inputs);
void backward_reference(const MaxPool& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const MaxPool& op, const CpuSetup& setup);
BackwardStep cuda_backward(const MaxPool& op, const CudaSetup& setup);

}  // namespace tessera
