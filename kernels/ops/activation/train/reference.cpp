#include "kernels/ops/activation/train/backward.h"

namespace tessera {

void backward_reference(const Activation& op, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  for (std::int64_t i = 0; i < dx->shape().elements(); ++i) {
    const double y = operands.outputs[0].as<float>()[i];
    double result = operands.output_gradients[0].as<float>()[i];
    switch (op.kind) {
      case Activation::Kind::kRelu:
        if (y <= 0) result = 0;
        break;
      case Activation::Kind::kSigmoid:
        result *= y * (1 - y);
        break;
      default:
        break;  // saved_for_backward refuses them
    }
    dx->as<float>()[i] = static_cast<float>(result);
  }
}

}  // namespace tessera
