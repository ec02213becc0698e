#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/ops/avg_pool/avg_pool.h"

namespace tessera {

void reference(const AvgPool& op, const Operands& operands) {
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
          double sum = 0;
          std::int64_t inside = 0, padded = 0;
          for (std::int64_t tap = 0; tap < std::int64_t{kh} * kw; ++tap) {
            const std::int64_t row = stride_y * i + tap / kw * dilation_y - op.window.before(0);
            const std::int64_t column = stride_x * j + tap % kw * dilation_x - op.window.before(1);
            if (row >= h + op.window.behind(0) || column >= w + op.window.behind(1)) continue;
            ++padded;
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
            ++inside;
            sum += element_f32(x, ((n * h + row) * w + column) * c + k);
          }
          // A dilated window may have all its taps in the padding: 0, not 0 / 0.
          const std::int64_t count = op.count_include_pad ? padded : inside;
          *out++ = static_cast<float>(sum / static_cast<double>(std::max<std::int64_t>(count, 1)));
        }
      }
    }
  }
}

}  // namespace tessera
