// Backward of GroupNorm, with z = (x - mean) / sqrt(var + eps), g = gamma dy and means over a
// group:
//
//   dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps),  dgamma = sum of dy z,  dbeta = sum of dy
//
// saved: x
#pragma once

#include "kernels/ops/group_norm/group_norm.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const GroupNorm& op, Types inputs);
void backward_reference(const GroupNorm& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const GroupNorm& op, const CpuSetup& setup);

}  // namespace tessera
