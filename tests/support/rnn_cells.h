// What the tests of BiRnn on both devices share.
#pragma once

#include <cmath>

#include "kernels/rnn/rnn.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

inline std::string name_of_cell(const BiRnn& op) {
  return fmt::format("{} of {} units, {}, reset_after {}",
                     op.cell == BiRnn::Cell::kLstm ? "LSTM" : "GRU", op.units,
                     op.gate == BiRnn::Gate::kSigmoid ? "sigmoid" : "hard_sigmoid", op.reset_after);
}

// Matrices of norm below 2, so that gates are of order one and neither saturate nor vanish.
inline std::vector<Tensor> weights_of(const BiRnn& op, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> weights;
  unsigned seed = 10;
  for (const Parameter& p : parameters(op, types(inputs))) {
    const float columns = p.shape.rank() == 2 ? static_cast<float>(p.shape[-1]) : 4.0f;
    const float scale = p.name == "embedding" ? 1.0f : 1.0f / std::sqrt(columns);
    weights.push_back(random(p.shape, ++seed, scale));
  }
  return weights;
}

}  // namespace tessera::test
