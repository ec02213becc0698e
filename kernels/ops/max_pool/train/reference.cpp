#include <cmath>
#include <vector>

#include "kernels/ops/max_pool/train/backward.h"
#include "kernels/pool.h"

namespace tessera {

void backward_reference(const MaxPool& op, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  const TensorView &x = operands.inputs[0], &dy = operands.output_gradients[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  std::vector<double> sums(static_cast<std::size_t>(x.shape().elements()));
  const auto* from = dy.as<float>();
  for (std::int64_t n = 0; n < dy.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < dy.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < dy.shape()[2]; ++j) {
        for (std::int64_t k = 0; k < c; ++k) {
          std::int64_t winner = -1;
          for (int ky = 0; ky < op.window.kernel[0]; ++ky) {
            for (int kx = 0; kx < op.window.kernel[1]; ++kx) {
              const std::int64_t y =
                  i * op.window.stride[0] + ky * op.window.dilation[0] - op.window.before(0);
              const std::int64_t column =
                  j * op.window.stride[1] + kx * op.window.dilation[1] - op.window.before(1);
              if (y < 0 || y >= h || column < 0 || column >= w) continue;
              const std::int64_t at = ((n * h + y) * w + column) * c + k;
              const float value = x.as<float>()[at];
              const float best = winner < 0 ? 0 : x.as<float>()[winner];
              if (winner < 0 || value > best || (std::isnan(value) && !std::isnan(best)))
                winner = at;
            }
          }
          if (winner >= 0) sums[static_cast<std::size_t>(winner)] += *from;
          ++from;
        }
      }
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) dx->as<float>()[i] = static_cast<float>(sums[i]);
}

}  // namespace tessera
