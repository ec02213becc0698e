// Backward of Concat: each input gets its part of dy.
//
// saved: nothing
#pragma once

#include "kernels/ops/concat/concat.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Concat& op, Types inputs);
void backward_reference(const Concat& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Concat& op, const CpuSetup& setup);

}  // namespace tessera
