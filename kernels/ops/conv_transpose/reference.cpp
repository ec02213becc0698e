#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"

namespace tessera {

void reference(const ConvTranspose& op, const Operands& operands) {
  const std::vector<float> x = to_f32(operands.inputs[0]);
  const std::vector<float> weight = to_f32(operands.weights[0]);  // (c_in, c_out / groups, kh, kw)
  const Shape& in = operands.inputs[0].shape();
  const Shape& out = operands.outputs[0].shape();
  const Window window = window_of(op);
  const std::int64_t h = in[1], w = in[2], kh = window.kernel[0], kw = window.kernel[1];
  const std::int64_t c_in = in[3] / op.groups, c_out = op.c_out / op.groups;  // of a group
  // The input pixel whose tap k reaches an output place, or -1.
  const auto source = [&](std::size_t axis, std::int64_t place, std::int64_t k, std::int64_t size) {
    const std::int64_t steps = place + window.before(axis) - k * window.dilation[axis];
    const std::int64_t stride = window.stride[axis];
    return steps < 0 || steps % stride != 0 || steps / stride >= size ? -1 : steps / stride;
  };
  float* y = operands.outputs[0].as<float>();
  for (std::int64_t index = 0; index < out.elements(); ++index) {
    const std::int64_t o = index % out[3], ox = index / out[3] % out[2];
    const std::int64_t oy = index / (out[3] * out[2]) % out[1];
    const std::int64_t n = index / (out[3] * out[2] * out[1]);
    const std::int64_t first = o / c_out * c_in;  // input channel of the group
    double sum = op.bias ? element_f32(operands.weights[1], o) : 0.0;
    for (std::int64_t ky = 0; ky < kh; ++ky) {
      for (std::int64_t kx = 0; kx < kw; ++kx) {
        const std::int64_t iy = source(0, oy, ky, h), ix = source(1, ox, kx, w);
        if (iy < 0 || ix < 0) continue;
        const std::int64_t pixel = ((n * h + iy) * w + ix) * in[3];
        for (std::int64_t i = first; i < first + c_in; ++i)
          sum += static_cast<double>(x[static_cast<std::size_t>(pixel + i)]) *
                 weight[static_cast<std::size_t>(((i * c_out + o % c_out) * kh + ky) * kw + kx)];
      }
    }
    y[index] = static_cast<float>(op.relu && sum < 0 ? 0.0 : sum);
  }
}

}  // namespace tessera
