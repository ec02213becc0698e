#include <algorithm>
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/head/head.h"

namespace tessera {

namespace {

std::vector<float> probabilities_of(const Head& op, std::vector<double> logits) {
  if (op.relu) {
    for (double& logit : logits) logit = logit < 0 ? 0 : logit;
  }
  double largest = -INFINITY, sum = 0;
  for (const double logit : logits) largest = std::fmax(largest, logit);
  for (const double logit : logits) sum += std::exp(logit - largest);
  std::vector<float> probabilities;
  for (const double logit : logits) {
    probabilities.push_back(static_cast<float>(op.output == Head::Output::kSoftmax
                                                   ? std::exp(logit - largest) / sum
                                                   : 1 / (1 + std::exp(-logit))));
  }
  return probabilities;
}

std::size_t class_of(const std::vector<float>& probabilities) {
  if (probabilities.size() == 1) return probabilities[0] > 0.5f ? 1 : 0;
  std::size_t best = 0;
  for (std::size_t k = 1; k < probabilities.size(); ++k) {
    const float value = probabilities[k], largest = probabilities[best];
    if (value > largest || (std::isnan(largest) && !std::isnan(value))) best = k;
  }
  return best;
}

}  // namespace

void reference(const Head& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t c = x.shape()[3], classes = op.classes;
  for (std::int64_t pixel = 0; pixel < x.shape().elements(0, 3); ++pixel) {
    std::vector<double> logits;
    for (std::int64_t k = 0; k < classes; ++k) {
      double sum = op.bias ? element_f32(operands.weights[1], k) : 0;
      for (std::int64_t i = 0; i < c; ++i) {
        sum += static_cast<double>(element_f32(x, pixel * c + i)) *
               element_f32(operands.weights[0], k * c + i);
      }
      logits.push_back(sum);
    }
    const std::vector<float> probabilities = probabilities_of(op, logits);
    operands.outputs[0].as<std::uint8_t>()[pixel] =
        static_cast<std::uint8_t>(class_of(probabilities));
    if (op.probabilities)
      std::copy(probabilities.begin(), probabilities.end(),
                operands.outputs[1].as<float>() + pixel * classes);
  }
}

}  // namespace tessera
