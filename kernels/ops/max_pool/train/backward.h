// Backward of MaxPool: dy goes to the largest pixel of its window, the first of equals in the order
// of rows, as PyTorch does it, and a NaN counts as the largest; pixels of several windows get the
// sum, all others 0. Windows other than 2x2 of stride 2 are for the CPU alone.
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
