#include <algorithm>
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/lengths.h"
#include "kernels/ops/attention/train/backward.h"

namespace tessera {

namespace {

// x, or D x + c: (rows, t, width).
std::vector<double> mapped(const Attention& op, const Operands& operands) {
  const std::vector<float> x = to_f32(operands.inputs[0]);
  if (!op.dense) return {x.begin(), x.end()};
  const std::vector<float> dense = to_f32(operands.weights[3]);
  const auto d = static_cast<std::size_t>(operands.inputs[0].shape()[-1]);
  std::vector<double> y;
  for (std::size_t step = 0; step < x.size() / d; ++step) {
    for (std::int64_t unit = 0; unit < op.dense->units; ++unit) {
      double sum = op.dense->bias ? element_f32(operands.weights[4], unit) : 0;
      for (std::size_t i = 0; i < d; ++i)
        sum += static_cast<double>(dense[unit * d + i]) * x[step * d + i];
      y.push_back(sum);
    }
  }
  return y;
}

// `kept`: (rows, t, units), tanh(W x + b), or null.
void run(const Attention& op, const Operands& operands, float* kept) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t t = shape[-2], rows = shape.elements() / (t * shape[-1]);
  const std::int64_t d = op.dense ? op.dense->units : shape[-1];
  if (op.masked) require_lengths("attention", operands.inputs[1], t);
  const std::vector<double> x = mapped(op, operands);
  const std::vector<float> weight = to_f32(operands.weights[0]);
  const std::vector<float> bias = to_f32(operands.weights[1]);
  const std::vector<float> context = to_f32(operands.weights[2]);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t steps = op.masked ? operands.inputs[1].as<std::int32_t>()[row] : t;
    std::vector<double> score(static_cast<std::size_t>(steps));
    double largest = -INFINITY;
    for (std::int64_t step = 0; step < steps; ++step) {
      const double* x_t = &x[(row * t + step) * d];
      for (std::int64_t unit = 0; unit < op.units; ++unit) {
        double sum = bias[unit];
        for (std::int64_t i = 0; i < d; ++i) sum += weight[unit * d + i] * x_t[i];
        const double u = std::tanh(sum);
        score[step] += u * context[unit];
        if (kept != nullptr) kept[(row * t + step) * op.units + unit] = static_cast<float>(u);
      }
      if (op.tanh_score) score[step] = std::tanh(score[step]);
      largest = std::max(largest, score[step]);
    }
    double total = op.eps == 0 ? 0 : op.eps * std::exp(-largest);
    for (double e : score) total += std::exp(e - largest);

    std::vector<double> sum(static_cast<std::size_t>(d));
    float* weights = operands.outputs[1].as<float>() + row * t;
    std::fill_n(weights, t, 0.0f);
    for (std::int64_t step = 0; step < steps; ++step) {
      const double a = std::exp(score[step] - largest) / total;
      weights[step] = static_cast<float>(a);
      for (std::int64_t i = 0; i < d; ++i) sum[i] += a * x[(row * t + step) * d + i];
    }
    float* s = operands.outputs[0].as<float>() + row * d;
    for (std::int64_t i = 0; i < d; ++i) s[i] = static_cast<float>(sum[i]);
  }
}

}  // namespace

void reference(const Attention& op, const Operands& operands) {
  run(op, operands, nullptr);
}

void train_reference(const Attention& op, const TrainOperands& operands) {
  const TensorView& u = operands.saved[0];
  std::fill_n(u.as<float>(), u.shape().elements(), 0.0f);
  run(op, {operands.inputs, operands.weights, operands.outputs}, u.as<float>());
  if (!op.dense) return;
  const std::vector<double> z = mapped(op, {operands.inputs, operands.weights, operands.outputs});
  for (std::size_t i = 0; i < z.size(); ++i)
    operands.saved[1].as<float>()[i] = static_cast<float>(z[i]);
}

}  // namespace tessera
