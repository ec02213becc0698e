#include <vector>

#include "kernels/ops/activation/train/backward.h"
#include "kernels/ops/activation/train/derivative.h"

namespace tessera {

void backward_reference(const Activation& op, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  const bool learned = op.kind == Activation::Kind::kPrelu;
  const TensorView* dw = learned ? wanted(operands.weight_gradients, 0) : nullptr;
  const std::int64_t slopes = learned ? operands.weights[0].shape().elements() : 1;
  std::vector<double> sums(static_cast<std::size_t>(slopes));
  const TensorView& dy = operands.output_gradients[0];
  for (std::int64_t i = 0; i < dy.shape().elements(); ++i) {
    const double gradient = dy.as<float>()[i];
    double result = 0;
    if (op.kind == Activation::Kind::kRelu) {
      result = operands.outputs[0].as<float>()[i] <= 0 ? 0 : gradient;
    } else if (op.kind == Activation::Kind::kSigmoid) {
      const double y = operands.outputs[0].as<float>()[i];
      result = gradient * y * (1 - y);
    } else {
      const double x = operands.inputs[0].as<float>()[i];
      const std::int64_t channel = i % slopes;
      result = gradient *
               activation_derivative(op, x, learned ? operands.weights[0].as<float>()[channel] : 0);
      if (x < 0) sums[static_cast<std::size_t>(channel)] += gradient * x;
    }
    if (dx != nullptr) dx->as<float>()[i] = static_cast<float>(result);
  }
  for (std::int64_t i = 0; dw != nullptr && i < slopes; ++i) {
    float& to = dw->as<float>()[i];
    to = static_cast<float>(to + sums[static_cast<std::size_t>(i)]);
  }
}

}  // namespace tessera
