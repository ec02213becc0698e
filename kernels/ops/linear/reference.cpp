#include "kernels/cpu/convert.h"
#include "kernels/ops/linear/linear.h"

namespace tessera {

void reference(const Linear& op, const Operands& operands) {
  const std::int64_t features = operands.inputs[0].shape()[-1];
  const std::int64_t rows = operands.inputs[0].shape().elements() / features;
  const std::vector<float> x = to_f32(operands.inputs[0]), w = to_f32(operands.weights[0]);
  auto* y = operands.outputs[0].as<float>();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t unit = 0; unit < op.units; ++unit) {
      double sum = op.bias ? element_f32(operands.weights[1], unit) : 0;
      for (std::int64_t i = 0; i < features; ++i)
        sum += static_cast<double>(x[row * features + i]) * w[unit * features + i];
      y[row * op.units + unit] = static_cast<float>(sum);
    }
  }
}

}  // namespace tessera
