#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/activation/activation.h"

namespace tessera {

void reference(const Activation& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
    const double value = element_f32(x, i);
    double result = value;
    switch (op.kind) {
      case Activation::Kind::kRelu:
        if (value < 0) result = 0;
        break;
      case Activation::Kind::kSigmoid:
        result = 1 / (1 + std::exp(-value));
        break;
    }
    operands.outputs[0].as<float>()[i] = static_cast<float>(result);
  }
}

}  // namespace tessera
