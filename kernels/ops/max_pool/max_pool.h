// Max-pooling 2x2, stride 2; a last odd row or column is dropped.
//
// inputs:  x (n, h, w, c)     outputs: y (n, h / 2, w / 2, c), same type
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct MaxPool {};

std::vector<TensorType> infer(const MaxPool& op, Types inputs);
std::vector<Parameter> parameters(const MaxPool& op, Types inputs);
Cost cost(const MaxPool& op, Types inputs);
void reference(const MaxPool& op, const Operands& operands);
Step cpu(const MaxPool& op, const CpuSetup& setup);
Step cuda(const MaxPool& op, const CudaSetup& setup);

}  // namespace tessera
