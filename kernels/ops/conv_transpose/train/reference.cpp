#include <vector>

#include "kernels/ops/conv_transpose/train/backward.h"

namespace tessera {

void backward_reference(const ConvTranspose& op, const BackwardOperands& operands) {
  require_f32_training(op, {&operands.inputs[0].type, 1});
  const Shape& in = operands.inputs[0].shape();
  const std::int64_t h = in[1], w = in[2], c_in = in[3], c_out = op.c_out, k = op.kernel;
  const std::int64_t padding = k == 3 ? 1 : 0;
  const auto* x = operands.inputs[0].as<float>();
  const auto* weight = operands.weights[0].as<float>();  // (c_in, c_out, k, k)
  std::vector<double> dx(static_cast<std::size_t>(in.elements()));
  std::vector<double> dw(static_cast<std::size_t>(c_in * c_out * k * k));
  std::vector<double> db(static_cast<std::size_t>(c_out));
  const Shape& out = operands.output_gradients[0].shape();
  for (std::int64_t index = 0; index < out.elements(); ++index) {
    if (op.relu && operands.outputs[0].as<float>()[index] <= 0) continue;
    const double g = operands.output_gradients[0].as<float>()[index];
    const std::int64_t o = index % out[3], ox = index / out[3] % out[2];
    const std::int64_t oy = index / (out[3] * out[2]) % out[1];
    const std::int64_t n = index / (out[3] * out[2] * out[1]);
    db[o] += g;
    for (std::int64_t ky = 0; ky < k; ++ky) {
      for (std::int64_t kx = 0; kx < k; ++kx) {
        // Input pixel iy reaches output row 2 iy - padding + ky.
        const std::int64_t twice_y = oy + padding - ky, twice_x = ox + padding - kx;
        if (twice_y < 0 || twice_y % 2 != 0 || twice_y / 2 >= h) continue;
        if (twice_x < 0 || twice_x % 2 != 0 || twice_x / 2 >= w) continue;
        const std::int64_t pixel = ((n * h + twice_y / 2) * w + twice_x / 2) * c_in;
        for (std::int64_t i = 0; i < c_in; ++i) {
          const std::int64_t tap = ((i * c_out + o) * k + ky) * k + kx;
          dx[pixel + i] += g * weight[tap];
          dw[tap] += g * x[pixel + i];
        }
      }
    }
  }
  if (const TensorView* to = wanted(operands.input_gradients, 0)) {
    for (std::size_t i = 0; i < dx.size(); ++i) to->as<float>()[i] = static_cast<float>(dx[i]);
  }
  const std::vector<double>* sums[] = {&dw, &db};
  for (std::size_t p = 0; p < (op.bias ? 2u : 1u); ++p) {
    const TensorView* to = wanted(operands.weight_gradients, p);
    for (std::size_t i = 0; to != nullptr && i < sums[p]->size(); ++i)
      to->as<float>()[i] = static_cast<float>(to->as<float>()[i] + (*sums[p])[i]);
  }
}

}  // namespace tessera
