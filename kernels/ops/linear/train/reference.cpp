#include <vector>

#include "kernels/ops/linear/train/backward.h"

namespace tessera {

void backward_reference(const Linear& op, const BackwardOperands& operands) {
  const std::int64_t features = operands.inputs[0].shape()[-1];
  const std::int64_t rows = operands.inputs[0].shape().elements() / features;
  const auto* x = operands.inputs[0].as<float>();
  const auto* w = operands.weights[0].as<float>();
  const auto* dy = operands.output_gradients[0].as<float>();
  std::vector<double> dx(static_cast<std::size_t>(rows * features));
  std::vector<double> dw(static_cast<std::size_t>(op.units * features));
  std::vector<double> db(static_cast<std::size_t>(op.units));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t unit = 0; unit < op.units; ++unit) {
      const double gradient = dy[row * op.units + unit];
      db[unit] += gradient;
      for (std::int64_t i = 0; i < features; ++i) {
        dx[row * features + i] += gradient * w[unit * features + i];
        dw[unit * features + i] += gradient * x[row * features + i];
      }
    }
  }
  if (const TensorView* to = wanted(operands.input_gradients, 0)) {
    for (std::size_t i = 0; i < dx.size(); ++i) to->as<float>()[i] = static_cast<float>(dx[i]);
  }
  const std::vector<double>* sums[] = {&dw, &db};
  for (std::size_t p = 0; p < (op.bias ? 2u : 1u); ++p) {
    const TensorView* to = wanted(operands.weight_gradients, p);
    for (std::size_t i = 0; to != nullptr && i < sums[p]->size(); ++i)
      to->as<float>()[i] = static_cast<float>(to->as<float>()[i] + (*sums[p])[i]);
  }
}

}  // namespace tessera
