#include <cmath>

#include "kernels/ops/max_pool/train/backward.h"

namespace tessera {

void backward_reference(const MaxPool&, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  const TensorView &x = operands.inputs[0], &dy = operands.output_gradients[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  std::fill_n(dx->as<float>(), x.shape().elements(), 0.0f);
  const auto* from = dy.as<float>();
  for (std::int64_t n = 0; n < dy.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < dy.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < dy.shape()[2]; ++j) {
        for (std::int64_t k = 0; k < c; ++k) {
          const auto at = [&](std::int64_t pixel) {
            return ((n * h + 2 * i + pixel / 2) * w + 2 * j + pixel % 2) * c + k;
          };
          std::int64_t winner = 0;
          for (std::int64_t pixel = 1; pixel < 4; ++pixel) {
            const float value = x.as<float>()[at(pixel)], best = x.as<float>()[at(winner)];
            if (value > best || (std::isnan(value) && !std::isnan(best))) winner = pixel;
          }
          dx->as<float>()[at(winner)] = *from++;
        }
      }
    }
  }
}

}  // namespace tessera
