#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops/upsample/train/backward.h"

namespace tessera {

void backward_reference(const Upsample& op, const BackwardOperands& operands) {
  const TensorView* to = wanted(operands.input_gradients, 0);
  if (to == nullptr) return;
  const Shape &x = operands.inputs[0].shape(), &y = operands.output_gradients[0].shape();
  const std::int64_t h = x[1], w = x[2], c = x[3];
  const auto source = [&](std::int64_t i, std::int64_t extent) {
    const auto position = static_cast<double>(i);
    if (op.align_corners)
      return position * static_cast<double>(extent - 1) / static_cast<double>(2 * extent - 1);
    return std::max(position / 2 - 0.25, 0.0);
  };
  std::vector<double> dx(static_cast<std::size_t>(x.elements()));
  const auto* dy = operands.output_gradients[0].as<float>();
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t i = 0; i < y[1]; ++i) {
      for (std::int64_t j = 0; j < y[2]; ++j) {
        const double row = source(i, h), column = source(j, w);
        const auto top = static_cast<std::int64_t>(row), left = static_cast<std::int64_t>(column);
        const double down = row - std::floor(row), right = column - std::floor(column);
        for (std::int64_t k = 0; k < c; ++k) {
          const double gradient = *dy++;
          const auto at = [&](std::int64_t below, std::int64_t behind) -> double& {
            const std::int64_t p = std::min(top + below, h - 1), q = std::min(left + behind, w - 1);
            return dx[static_cast<std::size_t>(((n * h + p) * w + q) * c + k)];
          };
          at(0, 0) += (1 - down) * (1 - right) * gradient;
          at(0, 1) += (1 - down) * right * gradient;
          at(1, 0) += down * (1 - right) * gradient;
          at(1, 1) += down * right * gradient;
        }
      }
    }
  }
  for (std::size_t i = 0; i < dx.size(); ++i) to->as<float>()[i] = static_cast<float>(dx[i]);
}

}  // namespace tessera
