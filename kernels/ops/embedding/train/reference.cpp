#include <vector>

#include "kernels/ops/embedding/train/backward.h"

namespace tessera {

void backward_reference(const Embedding& op, const BackwardOperands& operands) {
  const TensorView* to = wanted(operands.weight_gradients, 0);
  if (to == nullptr) return;
  require_ids(op, operands.inputs[0]);
  const auto* dy = operands.output_gradients[0].as<float>();
  std::vector<double> sums(static_cast<std::size_t>(to->shape().elements()));
  for (std::int64_t i = 0; i < operands.inputs[0].shape().elements(); ++i) {
    const std::int64_t row = operands.inputs[0].as<std::int32_t>()[i] * std::int64_t{op.features};
    for (std::int64_t j = 0; j < op.features; ++j) sums[row + j] += *dy++;
  }
  for (std::size_t i = 0; i < sums.size(); ++i)
    to->as<float>()[i] = static_cast<float>(to->as<float>()[i] + sums[i]);
}

}  // namespace tessera
