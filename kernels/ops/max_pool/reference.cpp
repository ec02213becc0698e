#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/max_pool/max_pool.h"

namespace tessera {

void reference(const MaxPool&, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const TensorView& y = operands.outputs[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  float* out = y.as<float>();
  for (std::int64_t n = 0; n < y.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < y.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < y.shape()[2]; ++j) {
        for (std::int64_t k = 0; k < c; ++k) {
          float largest = -INFINITY;
          for (std::int64_t pixel = 0; pixel < 4; ++pixel) {
            const std::int64_t row = 2 * i + pixel / 2, column = 2 * j + pixel % 2;
            const float value = element_f32(x, ((n * h + row) * w + column) * c + k);
            if (value > largest || std::isnan(value)) largest = value;
            if (std::isnan(largest)) break;
          }
          *out++ = largest;
        }
      }
    }
  }
}

}  // namespace tessera
