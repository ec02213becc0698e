#include "kernels/ops/softmax/train/backward.h"

namespace tessera {

void backward_reference(const Softmax&, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  const auto* y = operands.outputs[0].as<float>();
  const auto* dy = operands.output_gradients[0].as<float>();
  const std::int64_t c = dx->shape()[-1];
  for (std::int64_t first = 0; first < dx->shape().elements(); first += c) {
    double mean = 0;
    for (std::int64_t i = first; i < first + c; ++i) mean += static_cast<double>(dy[i]) * y[i];
    for (std::int64_t i = first; i < first + c; ++i)
      dx->as<float>()[i] = static_cast<float>(y[i] * (dy[i] - mean));
  }
}

}  // namespace tessera
