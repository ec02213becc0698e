// Backward of Upsample: each pixel of x gathers the dy of the outputs that read it, with the weight
// with which they did.
//
// saved: nothing
#pragma once

#include "kernels/ops/upsample/upsample.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Upsample& op, Types inputs);
void backward_reference(const Upsample& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Upsample& op, const CpuSetup& setup);
BackwardStep cuda_backward(const Upsample& op, const CudaSetup& setup);

}  // namespace tessera
