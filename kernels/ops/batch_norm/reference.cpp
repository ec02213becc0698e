#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/batch_norm/batch_norm.h"

namespace tessera {

void reference(const BatchNorm& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t c = x.shape()[-1];
  for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
    const auto weight = [&](std::size_t which) {
      return static_cast<double>(element_f32(operands.weights[which], i % c));
    };
    const double gamma = weight(0), beta = weight(1), mean = weight(2), variance = weight(3);
    const double value = element_f32(x, i);
    operands.outputs[0].as<float>()[i] =
        static_cast<float>(gamma * (value - mean) / std::sqrt(variance + op.eps) + beta);
  }
}

}  // namespace tessera
