#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"

namespace tessera {

void reference(const ConvTranspose& op, const Operands& operands) {
  const std::vector<float> x = to_f32(operands.inputs[0]);
  const std::vector<float> weight = to_f32(operands.weights[0]);  // (c_in, c_out, k, k)
  const Shape& in = operands.inputs[0].shape();
  const Shape& out = operands.outputs[0].shape();
  const std::int64_t h = in[1], w = in[2], c_in = in[3], k = op.kernel;
  const std::int64_t padding = k == 3 ? 1 : 0;
  float* y = operands.outputs[0].as<float>();
  for (std::int64_t index = 0; index < out.elements(); ++index) {
    const std::int64_t o = index % out[3], ox = index / out[3] % out[2];
    const std::int64_t oy = index / (out[3] * out[2]) % out[1];
    const std::int64_t n = index / (out[3] * out[2] * out[1]);
    double sum = op.bias ? element_f32(operands.weights[1], o) : 0.0;
    for (std::int64_t ky = 0; ky < k; ++ky) {
      for (std::int64_t kx = 0; kx < k; ++kx) {
        // Input pixel iy reaches output row 2 iy - padding + ky.
        const std::int64_t twice_y = oy + padding - ky, twice_x = ox + padding - kx;
        if (twice_y < 0 || twice_y % 2 != 0 || twice_y / 2 >= h) continue;
        if (twice_x < 0 || twice_x % 2 != 0 || twice_x / 2 >= w) continue;
        const std::int64_t pixel = (n * h + twice_y / 2) * w + twice_x / 2;
        for (std::int64_t i = 0; i < c_in; ++i)
          sum += static_cast<double>(x[static_cast<std::size_t>(pixel * c_in + i)]) *
                 weight[static_cast<std::size_t>(((i * op.c_out + o) * k + ky) * k + kx)];
      }
    }
    y[index] = static_cast<float>(op.relu && sum < 0 ? 0.0 : sum);
  }
}

}  // namespace tessera
