#include <vector>

#include "kernels/ops/conv_transpose/train/backward.h"

namespace tessera {

void backward_reference(const ConvTranspose& op, const BackwardOperands& operands) {
  require_f32_training(op, {&operands.inputs[0].type, 1});
  const Shape& in = operands.inputs[0].shape();
  const std::int64_t h = in[1], w = in[2], c_in = in[3], c_out = op.c_out;
  const Window window = window_of(op);
  const std::int64_t kh = window.kernel[0], kw = window.kernel[1];
  const std::int64_t group_in = c_in / op.groups, group_out = c_out / op.groups;
  const auto* x = operands.inputs[0].as<float>();
  const auto* weight = operands.weights[0].as<float>();  // (c_in, c_out / groups, kh, kw)
  std::vector<double> dx(static_cast<std::size_t>(in.elements()));
  std::vector<double> dw(static_cast<std::size_t>(c_in * group_out * kh * kw));
  std::vector<double> db(static_cast<std::size_t>(c_out));
  const Shape& out = operands.output_gradients[0].shape();
  for (std::int64_t index = 0; index < out.elements(); ++index) {
    if (op.relu && operands.outputs[0].as<float>()[index] <= 0) continue;
    const double g = operands.output_gradients[0].as<float>()[index];
    const std::int64_t o = index % out[3], ox = index / out[3] % out[2];
    const std::int64_t oy = index / (out[3] * out[2]) % out[1];
    const std::int64_t n = index / (out[3] * out[2] * out[1]);
    db[o] += g;
    for (std::int64_t ky = 0; ky < kh; ++ky) {
      for (std::int64_t kx = 0; kx < kw; ++kx) {
        // Input pixel iy reaches output row iy stride - pads + ky dilation.
        const std::int64_t at_y = oy + window.before(0) - ky * window.dilation[0];
        const std::int64_t at_x = ox + window.before(1) - kx * window.dilation[1];
        const std::int64_t sy = window.stride[0], sx = window.stride[1];
        if (at_y < 0 || at_y % sy != 0 || at_y / sy >= h) continue;
        if (at_x < 0 || at_x % sx != 0 || at_x / sx >= w) continue;
        const std::int64_t pixel = ((n * h + at_y / sy) * w + at_x / sx) * c_in;
        const std::int64_t first = o / group_out * group_in;  // channel of the group
        for (std::int64_t i = first; i < first + group_in; ++i) {
          const std::int64_t tap = ((i * group_out + o % group_out) * kh + ky) * kw + kx;
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
