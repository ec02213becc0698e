// Class ids: the index of the largest value along the last axis, the first of equals. With one
// channel (a sigmoid's), class 1 where the value exceeds 0.5, else 0. A NaN is never the largest.
//
// inputs:  x (..., c), f32, bf16 or f16, c <= 256     outputs: y (...), u8
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Argmax {};

std::vector<TensorType> infer(const Argmax& op, Types inputs);
std::vector<Parameter> parameters(const Argmax& op, Types inputs);
Cost cost(const Argmax& op, Types inputs);
void reference(const Argmax& op, const Operands& operands);
Step cpu(const Argmax& op, const CpuSetup& setup);
Step cuda(const Argmax& op, const CudaSetup& setup);

}  // namespace tessera
