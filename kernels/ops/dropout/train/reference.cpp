#include <cmath>

#include "kernels/ops/dropout/train/backward.h"
#include "kernels/ops/dropout/train/philox.h"

namespace tessera {

std::uint64_t dropout_threshold(const Dropout& op) {
  return static_cast<std::uint64_t>(std::llround(op.rate * 0x1p32));
}

float dropout_scale(const Dropout& op) {
  return op.rate < 1 ? static_cast<float>(1 / (1 - op.rate)) : 0.0f;
}

void train_reference(const Dropout& op, const TrainOperands& operands) {
  for (std::int64_t i = 0; i < operands.inputs[0].shape().elements(); ++i) {
    const auto place = static_cast<std::uint64_t>(i);
    const auto words = philox(operands.random.seed, operands.random.stream, place / 4);
    const bool keep = words[place % 4] >= dropout_threshold(op);
    operands.saved[0].as<std::uint8_t>()[i] = keep;
    operands.outputs[0].as<float>()[i] =
        keep ? operands.inputs[0].as<float>()[i] * dropout_scale(op) : 0.0f;
  }
}

void backward_reference(const Dropout& op, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  for (std::int64_t i = 0; dx != nullptr && i < dx->shape().elements(); ++i) {
    const bool keep = operands.saved[0].as<std::uint8_t>()[i] != 0;
    dx->as<float>()[i] =
        keep ? operands.output_gradients[0].as<float>()[i] * dropout_scale(op) : 0.0f;
  }
}

}  // namespace tessera
