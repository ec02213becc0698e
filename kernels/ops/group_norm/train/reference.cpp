#include "kernels/ops/group_norm/train/backward.h"

#include <cmath>

namespace tessera {

Saved saved_for_backward(const GroupNorm& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

void backward_reference(const GroupNorm& op, const BackwardOperands& operands) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t c = shape[-1], pixels = shape.elements(1, shape.rank() - 1);
  const std::int64_t groups = op.groups == 0 ? c : op.groups, width = c / groups;
  const auto* x = operands.inputs[0].as<const float>();
  const auto* dy = operands.output_gradients[0].as<const float>();
  const float* gamma = op.affine ? operands.weights[0].as<const float>() : nullptr;
  const TensorView* dx = wanted(operands.input_gradients, 0);
  const TensorView* dgamma = op.affine ? wanted(operands.weight_gradients, 0) : nullptr;
  const TensorView* dbeta = op.affine ? wanted(operands.weight_gradients, 1) : nullptr;
  const auto count = static_cast<double>(pixels * width);
  std::vector<double> scales(static_cast<std::size_t>(c)), shifts(scales);
  for (std::int64_t task = 0; task < shape[0] * groups; ++task) {
    const std::int64_t image = task / groups, first = task % groups * width;
    const auto for_each = [&](const auto& body) {  // body(element, channel)
      for (std::int64_t pixel = image * pixels; pixel < (image + 1) * pixels; ++pixel)
        for (std::int64_t k = first; k < first + width; ++k) body(pixel * c + k, k);
    };
    double mean = 0, variance = 0, of_g = 0, of_gz = 0;
    for_each([&](std::int64_t i, std::int64_t) { mean += x[i] / count; });
    for_each([&](std::int64_t i, std::int64_t) { variance += std::pow(x[i] - mean, 2) / count; });
    const double scale = 1 / std::sqrt(variance + op.eps);
    const auto z = [&](std::int64_t i) { return (x[i] - mean) * scale; };
    const auto g = [&](std::int64_t i, std::int64_t k) {
      return (gamma == nullptr ? 1.0 : gamma[k]) * dy[i];
    };
    for_each([&](std::int64_t i, std::int64_t k) {
      of_g += g(i, k) / count;
      of_gz += g(i, k) * z(i) / count;
      scales[static_cast<std::size_t>(k)] += dy[i] * z(i);
      shifts[static_cast<std::size_t>(k)] += dy[i];
    });
    if (dx == nullptr) continue;
    for_each([&](std::int64_t i, std::int64_t k) {
      dx->as<float>()[i] = static_cast<float>((g(i, k) - of_g - z(i) * of_gz) * scale);
    });
  }
  for (std::int64_t k = 0; k < c; ++k) {
    const auto at = static_cast<std::size_t>(k);
    if (dgamma != nullptr) dgamma->as<float>()[k] += static_cast<float>(scales[at]);
    if (dbeta != nullptr) dbeta->as<float>()[k] += static_cast<float>(shifts[at]);
  }
}

}  // namespace tessera
