// Softmax over the last axis, with the maximum subtracted: over the classes of each pixel of an
// image, or of each document.
//
// inputs:  x (..., c), f32, bf16 or f16     outputs: y (..., c), f32
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Softmax {};

std::vector<TensorType> infer(const Softmax& op, Types inputs);
std::vector<Parameter> parameters(const Softmax& op, Types inputs);
Cost cost(const Softmax& op, Types inputs);
void reference(const Softmax& op, const Operands& operands);
Step cpu(const Softmax& op, const CpuSetup& setup);
Step cuda(const Softmax& op, const CudaSetup& setup);

}  // namespace tessera
