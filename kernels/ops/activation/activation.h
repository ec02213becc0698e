// Element-wise activation.
//
// inputs:  x (...)     outputs: y (...), same type
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Activation {
  enum class Kind : std::uint8_t { kRelu, kSigmoid };
  Kind kind = Kind::kRelu;
};

std::vector<TensorType> infer(const Activation& op, Types inputs);
std::vector<Parameter> parameters(const Activation& op, Types inputs);
Cost cost(const Activation& op, Types inputs);
void reference(const Activation& op, const Operands& operands);
Step cpu(const Activation& op, const CpuSetup& setup);
Step cuda(const Activation& op, const CudaSetup& setup);

}  // namespace tessera
