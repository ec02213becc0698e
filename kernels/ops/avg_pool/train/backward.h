// Backward of AvgPool: each pixel of a window gets dy over the count of those that the mean is of;
// pixels of several windows get the sum.
//
// saved: nothing
#pragma once

#include "kernels/ops/avg_pool/avg_pool.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const AvgPool& op, Types inputs);
void backward_reference(const AvgPool& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const AvgPool& op, const CpuSetup& setup);

}  // namespace tessera
