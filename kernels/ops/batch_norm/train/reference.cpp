#include <cmath>

#include "kernels/ops/batch_norm/train/backward.h"

namespace tessera {

void train_reference(const BatchNorm& op, const TrainOperands& operands) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t c = shape[-1], n = shape.elements() / c;
  const auto* x = operands.inputs[0].as<float>();
  for (std::int64_t k = 0; k < c; ++k) {
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < n; ++i) mean += x[i * c + k];
    mean /= static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) variance += (x[i * c + k] - mean) * (x[i * c + k] - mean);
    const double unbiased = variance / static_cast<double>(n - 1);
    variance /= static_cast<double>(n);
    const double inverse = 1 / std::sqrt(variance + op.eps);
    const double gamma = operands.weights[0].as<float>()[k];
    const double beta = operands.weights[1].as<float>()[k];
    for (std::int64_t i = 0; i < n; ++i)
      operands.outputs[0].as<float>()[i * c + k] =
          static_cast<float>(gamma * (x[i * c + k] - mean) * inverse + beta);
    operands.saved[0].as<float>()[k] = static_cast<float>(mean);
    operands.saved[1].as<float>()[k] = static_cast<float>(inverse);
    float& running_mean = operands.weights[2].as<float>()[k];
    float& running_variance = operands.weights[3].as<float>()[k];
    running_mean = static_cast<float>(running_mean + op.momentum * (mean - running_mean));
    running_variance =
        static_cast<float>(running_variance + op.momentum * (unbiased - running_variance));
  }
}

void backward_reference(const BatchNorm&, const BackwardOperands& operands) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t c = shape[-1], n = shape.elements() / c;
  const auto *x = operands.inputs[0].as<float>(), *dy = operands.output_gradients[0].as<float>();
  for (std::int64_t k = 0; k < c; ++k) {
    const double mean = operands.saved[0].as<float>()[k],
                 inverse = operands.saved[1].as<float>()[k];
    double dgamma = 0, dbeta = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      dbeta += dy[i * c + k];
      dgamma += dy[i * c + k] * (x[i * c + k] - mean) * inverse;
    }
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      const double gamma = operands.weights[0].as<float>()[k], count = static_cast<double>(n);
      for (std::int64_t i = 0; i < n; ++i) {
        const double xhat = (x[i * c + k] - mean) * inverse;
        dx->as<float>()[i * c + k] = static_cast<float>(
            gamma * inverse * (dy[i * c + k] - dbeta / count - xhat * dgamma / count));
      }
    }
    const double sums[] = {dgamma, dbeta};
    for (std::size_t p : {0, 1}) {
      if (const TensorView* to = wanted(operands.weight_gradients, p))
        to->as<float>()[k] = static_cast<float>(to->as<float>()[k] + sums[p]);
    }
  }
}

}  // namespace tessera
