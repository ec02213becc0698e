#include "kernels/lengths.h"
#include "kernels/ops/attention/train/backward.h"

namespace tessera {

namespace {

using Vector = std::vector<double>;

void add(const TensorView* to, const Vector& sums) {
  for (std::size_t i = 0; to != nullptr && i < sums.size(); ++i)
    to->as<float>()[i] = static_cast<float>(to->as<float>()[i] + sums[i]);
}

}  // namespace

void backward_reference(const Attention& op, const BackwardOperands& operands) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t t = shape[-2], d = shape[-1], rows = shape.elements() / (t * d);
  const std::int64_t width = op.dense ? op.dense->units : d, units = op.units;
  const auto* x = operands.inputs[0].as<float>();
  const float* z = op.dense ? operands.saved[1].as<float>() : x;
  const auto *u = operands.saved[0].as<float>(), *a = operands.outputs[1].as<float>();
  const auto *weight = operands.weights[0].as<float>(), *context = operands.weights[2].as<float>();
  const auto* ds = operands.output_gradients[0].as<float>();
  const auto* da = operands.output_gradients[1].as<float>();
  Vector dz(static_cast<std::size_t>(rows * t * width)),
      dw(static_cast<std::size_t>(units * width));
  Vector db(static_cast<std::size_t>(units)), dcontext(db.size());
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t steps = op.masked ? operands.inputs[1].as<std::int32_t>()[row] : t;
    Vector gradient(static_cast<std::size_t>(steps));
    double mean = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t at = row * t + step;
      if (da != nullptr) gradient[step] = da[at];
      for (std::int64_t i = 0; i < width; ++i)
        gradient[step] += static_cast<double>(ds[row * width + i]) * z[at * width + i];
      mean += a[at] * gradient[step];
    }
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t at = row * t + step;
      const double de = a[at] * (gradient[step] - mean);
      for (std::int64_t i = 0; i < width; ++i)
        dz[at * width + i] += static_cast<double>(a[at]) * ds[row * width + i];
      for (std::int64_t unit = 0; unit < units; ++unit) {
        const double tanh = u[at * units + unit], dp = de * context[unit] * (1 - tanh * tanh);
        dcontext[unit] += de * tanh;
        db[unit] += dp;
        for (std::int64_t i = 0; i < width; ++i) {
          dw[unit * width + i] += dp * z[at * width + i];
          dz[at * width + i] += dp * weight[unit * width + i];
        }
      }
    }
  }
  add(wanted(operands.weight_gradients, 0), dw);
  add(wanted(operands.weight_gradients, 1), db);
  add(wanted(operands.weight_gradients, 2), dcontext);
  Vector dx = dz;
  if (op.dense) {
    dx.assign(static_cast<std::size_t>(rows * t * d), 0.0);
    Vector ddense(static_cast<std::size_t>(width * d)), dbias(static_cast<std::size_t>(width));
    const auto* dense = operands.weights[3].as<float>();
    for (std::int64_t at = 0; at < rows * t; ++at) {
      for (std::int64_t j = 0; j < width; ++j) {
        dbias[j] += dz[at * width + j];
        for (std::int64_t i = 0; i < d; ++i) {
          ddense[j * d + i] += dz[at * width + j] * x[at * d + i];
          dx[at * d + i] += dz[at * width + j] * dense[j * d + i];
        }
      }
    }
    add(wanted(operands.weight_gradients, 3), ddense);
    if (op.dense->bias) add(wanted(operands.weight_gradients, 4), dbias);
  }
  if (const TensorView* to = wanted(operands.input_gradients, 0)) {
    for (std::size_t i = 0; i < dx.size(); ++i) to->as<float>()[i] = static_cast<float>(dx[i]);
  }
}

}  // namespace tessera
