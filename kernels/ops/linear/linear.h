// Dense layer on the last axis: y = W x + b.
//
// inputs:  x (..., features), f32     weights: weight (units, features); bias (units) if bias
// outputs: y (..., units), f32
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Linear {
  int units = 0;
  bool bias = true;
};

std::vector<TensorType> infer(const Linear& op, Types inputs);
std::vector<Parameter> parameters(const Linear& op, Types inputs);
Cost cost(const Linear& op, Types inputs);
void reference(const Linear& op, const Operands& operands);
Step cpu(const Linear& op, const CpuSetup& setup);
Step cuda(const Linear& op, const CudaSetup& setup);

}  // namespace tessera
