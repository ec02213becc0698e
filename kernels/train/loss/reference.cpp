#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/train/loss/loss.h"

namespace tessera {

LossResult reference(const Loss& op, const LossOperands& operands) {
  check_types(op, operands.logits.type, operands.labels.type);
  const std::int64_t c = operands.logits.shape()[-1];
  check_labels(op, c, operands.labels);
  const std::int64_t n = operands.logits.shape().elements() / c;
  const auto* logits = operands.logits.as<float>();
  const auto label_of = [&](std::int64_t i) -> std::int64_t {
    return operands.labels.type.dtype == DType::kU8 ? operands.labels.as<std::uint8_t>()[i]
                                                    : operands.labels.as<std::int32_t>()[i];
  };

  std::vector<double> p(static_cast<std::size_t>(n * c));
  std::vector<double> both(static_cast<std::size_t>(c)), either(both.size());
  double sum = 0, weights = 0, used = 0;
  LossResult result;
  std::vector<double> weight(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const float* z = logits + i * c;
    double* probability = &p[static_cast<std::size_t>(i * c)];
    const std::int64_t label = label_of(i);
    double loss = 0;
    if (c == 1) {
      probability[0] = 1 / (1 + std::exp(-double{z[0]}));
      loss = std::max(double{z[0]}, 0.0) - (label == 1 ? z[0] : 0.0) +
             std::log1p(std::exp(-std::abs(double{z[0]})));
    } else {
      const double largest = *std::max_element(z, z + c);
      double total = 0;
      for (std::int64_t k = 0; k < c; ++k) total += std::exp(z[k] - largest);
      for (std::int64_t k = 0; k < c; ++k) probability[k] = std::exp(z[k] - largest) / total;
      if (label != op.ignored) loss = std::log(total) + largest - z[label];
    }
    if (op.ignored == label) continue;
    weight[i] = (operands.weights != nullptr ? operands.weights[i] : 1.0) *
                (operands.class_weights != nullptr ? operands.class_weights[label] : 1.0);
    sum += weight[i] * loss;
    weights += weight[i];
    used += 1;
    if (operands.weights == nullptr || operands.weights[i] != 0) {
      const std::int64_t answer = c == 1 ? z[0] > 0 : std::max_element(z, z + c) - z;
      ++result.counted;
      result.correct += answer == label;
    }
    for (std::int64_t k = 0; k < c; ++k) {
      const double y = c == 1 ? static_cast<double>(label) : static_cast<double>(label == k);
      both[k] += probability[k] * y;
      either[k] += probability[k] + y;
    }
  }

  const double divisor = op.mean == Loss::Mean::kWeights ? weights : used;
  const double factor = divisor > 0 ? op.cross_entropy / divisor : 0;
  result.loss = factor * sum;
  std::vector<double> constant(both.size()), labelled(both.size());  // of Dice's dL/dp
  for (std::int64_t k = 0; k < c && op.dice > 0 && used > 0; ++k) {
    const double above = 2 * both[k] + op.smooth, below = either[k] + op.smooth;
    const double share = op.dice / static_cast<double>(c);
    result.loss += share * (1 - above / below);
    constant[k] = share * above / (below * below);
    labelled[k] = -2 * share / below;
  }
  for (std::int64_t i = 0; operands.gradient != nullptr && i < n; ++i) {
    const double* probability = &p[static_cast<std::size_t>(i * c)];
    const std::int64_t label = label_of(i);
    std::vector<double> y(both.size()), slope(both.size());
    double mean = 0;
    for (std::int64_t k = 0; k < c; ++k) {
      y[k] = c == 1 ? static_cast<double>(label) : static_cast<double>(label == k);
      slope[k] = constant[k] + labelled[k] * y[k];
      mean += slope[k] * probability[k];
    }
    for (std::int64_t k = 0; k < c; ++k) {
      const double change = c == 1 ? slope[k] * (1 - probability[k]) : slope[k] - mean;
      const double gradient =
          factor * weight[i] * (probability[k] - y[k]) + probability[k] * change;
      operands.gradient[i * c + k] =
          static_cast<float>(op.ignored == label ? 0.0 : operands.scale * gradient);
    }
  }
  return result;
}

}  // namespace tessera
