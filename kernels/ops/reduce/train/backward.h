// Backward of Reduce: of a sum each element gets dy, of a mean its share of it; of max and min
// those that are the result share dy, as in torch.amax.
//
// saved: nothing of a sum or mean; x and y of the others
#pragma once

#include "kernels/ops/reduce/reduce.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Reduce& op, Types inputs);
void backward_reference(const Reduce& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Reduce& op, const CpuSetup& setup);

}  // namespace tessera
