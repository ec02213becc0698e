#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/lengths.h"
#include "kernels/ops/rnn/recurrence.h"
#include "kernels/ops/rnn/train/backward.h"

namespace tessera {

namespace {

using Vector = std::vector<double>;

double slope(const BiRnn& op, double gate) {
  if (op.gate == BiRnn::Gate::kSigmoid) return gate * (1 - gate);
  return gate > 0 && gate < 1 ? 0.2 : 0;
}

// One direction: its weights, and the sums that become their gradients.
struct DirectionGradients {
  const float *w, *u;         // (g units, features), (g units, units)
  Vector dw, du, db_w, db_u;  // of the same shapes
};

// Gradients of one step's sums of products, in PyTorch's order of gates.
struct StepGradients {
  Vector input;   // of W x + b_ih
  Vector hidden;  // of U h' + b_hh
};

// In: dh of this step's output and, for an LSTM, dc that came from the step after. Out: dc, and dh,
// of the step before.
StepGradients lstm_step(const BiRnn& op, const DirectionGradients& p, const float* kept,
                        const Vector& c, Vector& dh, Vector& dc) {
  const std::size_t units = dh.size();
  StepGradients z{Vector(4 * units), {}};
  for (std::size_t k = 0; k < units; ++k) {
    const double i = kept[k], f = kept[units + k], g = kept[2 * units + k];
    const double o = kept[3 * units + k], t = std::tanh(double{kept[4 * units + k]});
    const double cell = dc[k] + dh[k] * o * (1 - t * t);
    z.input[k] = cell * g * slope(op, i);
    z.input[units + k] = cell * c[k] * slope(op, f);
    z.input[2 * units + k] = cell * i * (1 - g * g);
    z.input[3 * units + k] = dh[k] * t * slope(op, o);
    dc[k] = cell * f;
  }
  z.hidden = z.input;
  std::fill(dh.begin(), dh.end(), 0.0);
  for (std::size_t row = 0; row < 4 * units; ++row)
    for (std::size_t k = 0; k < units; ++k) dh[k] += z.hidden[row] * p.u[row * units + k];
  return z;
}

StepGradients gru_step(const BiRnn& op, const DirectionGradients& p, const float* kept,
                       const Vector& h, Vector& dh) {
  const std::size_t units = dh.size();
  StepGradients s{Vector(3 * units), Vector(3 * units)};
  Vector before(units), dp(units);
  for (std::size_t k = 0; k < units; ++k) {
    const double r = kept[k], z = kept[units + k], n = kept[2 * units + k];
    const double dn = dh[k] * (1 - z) * (1 - n * n);
    s.input[2 * units + k] = dn;
    s.hidden[2 * units + k] = op.reset_after ? dn * r : dn;
    s.input[units + k] = s.hidden[units + k] = dh[k] * (h[k] - n) * slope(op, z);
    before[k] = dh[k] * z;
  }
  for (std::size_t i = 0; i < units; ++i)
    for (std::size_t k = 0; k < units; ++k)
      dp[k] += s.hidden[2 * units + i] * p.u[(2 * units + i) * units + k];
  for (std::size_t k = 0; k < units; ++k) {
    const double r = kept[k], q = kept[3 * units + k];
    const double dr = op.reset_after ? s.input[2 * units + k] * q : dp[k] * h[k];
    s.input[k] = s.hidden[k] = dr * slope(op, r);
    before[k] += op.reset_after ? dp[k] : dp[k] * r;
  }
  for (std::size_t row = 0; row < 2 * units; ++row)
    for (std::size_t k = 0; k < units; ++k) before[k] += s.hidden[row] * p.u[row * units + k];
  dh = before;
  return s;
}

void add_to(const TensorView* to, const Vector& sums) {
  for (std::size_t i = 0; to != nullptr && i < sums.size(); ++i)
    to->as<float>()[i] = static_cast<float>(to->as<float>()[i] + sums[i]);
}

}  // namespace

void backward_reference(const BiRnn& op, const BackwardOperands& operands) {
  const Shape& shape = operands.inputs[0].shape();
  const std::int64_t t = shape[-2], features = shape[-1], rows = shape.elements() / (t * features);
  const auto units = static_cast<std::size_t>(op.units);
  const std::size_t gates = static_cast<std::size_t>(gate_count(op)) * units;
  const std::size_t kept_step = static_cast<std::size_t>(rnn_kept_values(op)) * units;
  const bool lstm = op.cell == BiRnn::Cell::kLstm;
  const auto* x = operands.inputs[0].as<float>();
  const auto *y = operands.outputs[0].as<float>(), *kept = operands.saved[0].as<float>();
  const auto* dy = operands.output_gradients[0].as<float>();
  Vector dx(static_cast<std::size_t>(shape.elements()));
  for (std::size_t direction : {0, 1}) {
    const auto w = operands.weights.subspan(4 * direction, 4);
    DirectionGradients p{
        w[0].as<float>(),      w[1].as<float>(), Vector(gates * static_cast<std::size_t>(features)),
        Vector(gates * units), Vector(gates),    Vector(gates)};
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t length = op.masked ? operands.inputs[1].as<std::int32_t>()[row] : t;
      Vector dh(units), dc(units);
      for (std::int64_t i = length - 1; i >= 0; --i) {
        const auto step_of = [&](std::int64_t index) {
          const std::int64_t time = direction == 0 ? index : length - 1 - index;
          return static_cast<std::size_t>((row * t + time) * 2) + direction;
        };
        const std::size_t step = step_of(i);
        Vector h(units), c(units);
        for (std::size_t k = 0; k < units; ++k) {
          dh[k] += dy[step * units + k];
          if (i == 0) continue;
          h[k] = y[step_of(i - 1) * units + k];
          c[k] = kept[step_of(i - 1) * kept_step + (lstm ? 4 : 0) * units + k];
        }
        const float* values = kept + step * kept_step;
        const StepGradients z =
            lstm ? lstm_step(op, p, values, c, dh, dc) : gru_step(op, p, values, h, dh);
        const std::size_t x_at = step / 2 * static_cast<std::size_t>(features);
        for (std::size_t gate = 0; gate < gates; ++gate) {
          const bool reset = !lstm && !op.reset_after && gate >= 2 * units;
          p.db_w[gate] += z.input[gate];
          p.db_u[gate] += z.hidden[gate];
          for (std::size_t k = 0; k < units; ++k)
            p.du[gate * units + k] += z.hidden[gate] * (reset ? values[3 * units + k] : h[k]);
          for (std::size_t j = 0; j < static_cast<std::size_t>(features); ++j) {
            const std::size_t weight = gate * static_cast<std::size_t>(features) + j;
            p.dw[weight] += z.input[gate] * x[x_at + j];
            dx[x_at + j] += z.input[gate] * p.w[weight];
          }
        }
      }
    }
    const Vector* sums[] = {&p.dw, &p.du, &p.db_w, &p.db_u};
    for (std::size_t i = 0; i < 4; ++i)
      add_to(wanted(operands.weight_gradients, 4 * direction + i), *sums[i]);
  }
  if (const TensorView* to = wanted(operands.input_gradients, 0)) {
    for (std::size_t i = 0; i < dx.size(); ++i) to->as<float>()[i] = static_cast<float>(dx[i]);
  }
}

}  // namespace tessera
