// Backward of Binary: dy times the derivative by each operand, summed over the axes that broadcast.
//
//   a + b: da = dy, db = dy     a - b: db = -dy     a b: da = dy b, db = dy a
//   a / b: da = dy / b, db = -dy a / b^2
//   min, max: the operand that was taken gets dy; of equals each gets half, as in PyTorch
//
// saved: both operands, but of a sum or difference
#pragma once

#include "kernels/ops/binary/binary.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Binary& op, Types inputs);
void backward_reference(const Binary& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Binary& op, const CpuSetup& setup);

}  // namespace tessera
