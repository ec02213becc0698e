// Backward of Resize: dy of each output goes to the pixels that it was weighed from, by the same
// weights (resize_taps). The map that tells a size gets 0.
//
// saved: nothing
#pragma once

#include "kernels/ops/resize/resize.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Resize& op, Types inputs);
void backward_reference(const Resize& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Resize& op, const CpuSetup& setup);

}  // namespace tessera
