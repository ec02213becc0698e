#include "kernels/ops/attention/fold.h"

#include <algorithm>

#include "kernels/cpu/convert.h"

namespace tessera {

AttentionWeights folded_weights(const Attention& op, std::span<const TensorView> weights) {
  AttentionWeights w{to_f32(weights[0]), to_f32(weights[1]), to_f32(weights[2]), {}, {}};
  if (!op.dense) return w;
  const auto units = static_cast<std::size_t>(op.units);
  const auto dense_units = static_cast<std::size_t>(op.dense->units);
  w.dense = to_f32(weights[3]);
  w.dense_bias = op.dense->bias ? to_f32(weights[4]) : std::vector<float>(dense_units);
  const std::size_t d = w.dense.size() / dense_units;
  std::vector<float> products(units * d);
  std::vector<double> row(d);
  for (std::size_t unit = 0; unit < units; ++unit) {
    std::fill(row.begin(), row.end(), 0.0);
    double bias = w.bias[unit];
    for (std::size_t j = 0; j < dense_units; ++j) {
      const double factor = w.weight[unit * dense_units + j];
      for (std::size_t i = 0; i < d; ++i) row[i] += factor * w.dense[j * d + i];
      bias += factor * w.dense_bias[j];
    }
    std::transform(row.begin(), row.end(), &products[unit * d],
                   [](double sum) { return static_cast<float>(sum); });
    w.bias[unit] = static_cast<float>(bias);
  }
  w.weight = std::move(products);
  return w;
}

}  // namespace tessera
