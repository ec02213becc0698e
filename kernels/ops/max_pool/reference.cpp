#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/max_pool/max_pool.h"

namespace tessera {

void reference(const MaxPool& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const TensorView& y = operands.outputs[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  const auto [kh, kw] = op.window.kernel;
  const auto [stride_y, stride_x] = op.window.stride;
  const auto [dilation_y, dilation_x] = op.window.dilation;
  float* out = y.as<float>();
  for (std::int64_t n = 0; n < y.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < y.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < y.shape()[2]; ++j) {
        for (std::int64_t k = 0; k < c; ++k) {
          float largest = -INFINITY;
          for (std::int64_t tap = 0; tap < std::int64_t{kh} * kw; ++tap) {
            const std::int64_t row = stride_y * i + tap / kw * dilation_y - op.window.before(0);
            const std::int64_t column = stride_x * j + tap % kw * dilation_x - op.window.before(1);
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
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
