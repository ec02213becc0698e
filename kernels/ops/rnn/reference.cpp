#include <algorithm>
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/lengths.h"
#include "kernels/ops/rnn/recurrence.h"
#include "kernels/ops/rnn/train/backward.h"

namespace tessera {

namespace {

using Vector = std::vector<double>;

// weight_ih, weight_hh, bias_ih, bias_hh of one direction.
struct Direction {
  std::vector<float> w, u, b_w, b_u;
};

double gate(const BiRnn& op, double x) {
  if (op.gate == BiRnn::Gate::kSigmoid) return 1 / (1 + std::exp(-x));
  const double y = 0.2 * x + 0.5;
  return y < 0 ? 0 : y > 1 ? 1 : y;
}

// matrix (rows, x's size) x, without the bias.
Vector product(const std::vector<float>& matrix, const Vector& x) {
  Vector y(matrix.size() / x.size());
  for (std::size_t row = 0; row < y.size(); ++row) {
    for (std::size_t i = 0; i < x.size(); ++i)
      y[row] += static_cast<double>(matrix[row * x.size() + i]) * x[i];
  }
  return y;
}

// A step also writes what training keeps of it, (rnn_kept_values, units).
void lstm_step(const BiRnn& op, const Direction& p, const Vector& x, Vector& h, Vector& c,
               Vector& kept) {
  const Vector wx = product(p.w, x), uh = product(p.u, h);
  const std::size_t units = h.size();
  for (std::size_t k = 0; k < units; ++k) {
    const auto sum = [&](std::size_t which) {
      const std::size_t row = which * units + k;
      return wx[row] + p.b_w[row] + uh[row] + p.b_u[row];
    };
    const double i = gate(op, sum(0)), f = gate(op, sum(1)), o = gate(op, sum(3));
    const double g = std::tanh(sum(2));
    c[k] = f * c[k] + i * g;
    h[k] = o * std::tanh(c[k]);
    const double values[] = {i, f, g, o, c[k]};
    for (std::size_t value = 0; value < 5; ++value) kept[value * units + k] = values[value];
  }
}

void gru_step(const BiRnn& op, const Direction& p, const Vector& x, Vector& h, Vector& kept) {
  const Vector wx = product(p.w, x), uh = product(p.u, h);
  const std::size_t units = h.size();
  Vector r(units), z(units), reset_h(units);
  for (std::size_t k = 0; k < units; ++k) {
    const std::size_t row_z = units + k;
    r[k] = gate(op, wx[k] + p.b_w[k] + uh[k] + p.b_u[k]);
    z[k] = gate(op, wx[row_z] + p.b_w[row_z] + uh[row_z] + p.b_u[row_z]);
    reset_h[k] = r[k] * h[k];
  }
  const Vector u_reset_h = product(p.u, reset_h);
  for (std::size_t k = 0; k < units; ++k) {
    const std::size_t row = 2 * units + k;
    const double hidden =
        op.reset_after ? r[k] * (uh[row] + p.b_u[row]) : u_reset_h[row] + p.b_u[row];
    const double n = std::tanh(wx[row] + p.b_w[row] + hidden);
    const double values[] = {r[k], z[k], n, op.reset_after ? uh[row] + p.b_u[row] : reset_h[k]};
    for (std::size_t value = 0; value < 4; ++value) kept[value * units + k] = values[value];
    h[k] = (1 - z[k]) * n + z[k] * h[k];
  }
}

// `saved`: (rows, t, 2, rnn_kept_values, units), or null.
void run(const BiRnn& op, const Operands& operands, float* saved) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t t = op.embedding ? shape[-1] : shape[-2];
  const std::int64_t features = op.embedding ? op.embedding->features : shape[-1];
  const std::int64_t rows = shape.elements() / (op.embedding ? t : t * features);
  if (op.embedding) require_ids(*op.embedding, operands.inputs[0]);
  if (op.masked) require_lengths("rnn", operands.inputs[1], t);

  const auto x_at = [&](std::int64_t step) {
    const std::int64_t row = op.embedding ? operands.inputs[0].as<std::int32_t>()[step] : step;
    const TensorView& from = op.embedding ? operands.weights[0] : operands.inputs[0];
    Vector x(static_cast<std::size_t>(features));
    for (std::int64_t i = 0; i < features; ++i) x[i] = element_f32(from, row * features + i);
    return x;
  };

  const std::int64_t chain = op.carried ? shape[op.embedding ? -2 : -3] : 1;
  auto* y = operands.outputs[0].as<float>();
  std::fill_n(y, rows * t * 2 * op.units, 0.0f);
  Vector kept(static_cast<std::size_t>(rnn_kept_values(op) * op.units));
  if (saved != nullptr)
    std::fill_n(saved, rows * t * 2 * static_cast<std::int64_t>(kept.size()), 0.0f);
  for (int direction = 0; direction < 2; ++direction) {
    const auto w = operands.weights.subspan((op.embedding ? 1 : 0) + 4 * direction, 4);
    const Direction p{to_f32(w[0]), to_f32(w[1]), to_f32(w[2]), to_f32(w[3])};
    Vector h, c;
    for (std::int64_t row = 0; row < rows; ++row) {
      if (row % chain == 0) h.assign(static_cast<std::size_t>(op.units), 0), c = h;
      const std::int64_t length = op.masked ? operands.inputs[1].as<std::int32_t>()[row] : t;
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t step = row * t + (direction == 0 ? i : length - 1 - i);
        if (op.cell == BiRnn::Cell::kLstm) {
          lstm_step(op, p, x_at(step), h, c, kept);
        } else {
          gru_step(op, p, x_at(step), h, kept);
        }
        for (std::int64_t k = 0; k < op.units; ++k)
          y[(step * 2 + direction) * op.units + k] = static_cast<float>(h[k]);
        for (std::size_t k = 0; saved != nullptr && k < kept.size(); ++k)
          saved[static_cast<std::size_t>(step * 2 + direction) * kept.size() + k] =
              static_cast<float>(kept[k]);
      }
    }
  }
}

}  // namespace

void reference(const BiRnn& op, const Operands& operands) {
  run(op, operands, nullptr);
}

void train_reference(const BiRnn& op, const TrainOperands& operands) {
  run(op, {operands.inputs, operands.weights, operands.outputs}, operands.saved[0].as<float>());
}

}  // namespace tessera
