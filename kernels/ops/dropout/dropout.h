// Dropout at inference: the identity. A pass removes it; run alone it copies.
//
// inputs:  x (...)     outputs: y (...), same type
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Dropout {
  double rate = 0.5;  // of training; not used at inference
};

std::vector<TensorType> infer(const Dropout& op, Types inputs);
std::vector<Parameter> parameters(const Dropout& op, Types inputs);
Cost cost(const Dropout& op, Types inputs);
void reference(const Dropout& op, const Operands& operands);
Step cpu(const Dropout& op, const CpuSetup& setup);
Step cuda(const Dropout& op, const CudaSetup& setup);

}  // namespace tessera
