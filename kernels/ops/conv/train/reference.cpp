#include "kernels/check.h"
#include "kernels/cpu/convert.h"
#include "kernels/ops/conv/train/backward.h"

namespace tessera {

void backward_reference(const Conv& op, const BackwardOperands& operands) {
  saved_for_backward(op, {&operands.inputs[0].type, 1});
  require(op.dtype == DType::kF32 && operands.inputs[0].type.dtype == DType::kF32,
          kConvTrainingTerms);
  const ConvGeometry g = geometry_of(op, {&operands.inputs[0].type, 1});
  const std::int64_t kh = op.window.kernel[0], kw = op.window.kernel[1];
  const std::int64_t group_in = g.c_in / op.groups, group_out = g.c_out / op.groups;
  const auto* x = operands.inputs[0].as<float>();
  const std::vector<float> weight = to_f32(operands.weights[0]);  // (c_out, c_in / groups, kh, kw)
  const std::int64_t pixels = g.n * g.h * g.w;
  std::vector<double> dx(static_cast<std::size_t>(pixels * g.c_in));
  std::vector<double> dw(weight.size()), db(static_cast<std::size_t>(g.c_out));
  const bool needs_dw = wanted(operands.weight_gradients, 0) != nullptr;
  for (std::int64_t n = 0; n < g.n; ++n) {
    for (std::int64_t oy = 0; oy < g.ho; ++oy) {
      for (std::int64_t ox = 0; ox < g.wo; ++ox) {
        for (std::int64_t o = 0; o < g.c_out; ++o) {
          const std::int64_t at = ((n * g.ho + oy) * g.wo + ox) * g.c_out + o;
          const double dy = operands.output_gradients[0].as<float>()[at];
          if (op.relu && operands.outputs[0].as<float>()[at] <= 0) continue;
          db[o] += dy;
          for (std::int64_t ky = 0; ky < kh; ++ky) {
            for (std::int64_t kx = 0; kx < kw; ++kx) {
              const std::int64_t y = oy * op.window.stride[0] + ky * op.window.dilation[0] - g.top;
              const std::int64_t column =
                  ox * op.window.stride[1] + kx * op.window.dilation[1] - g.left;
              if (y < 0 || y >= g.h || column < 0 || column >= g.w) continue;
              const std::int64_t pixel =
                  ((n * g.h + y) * g.w + column) * g.c_in + o / group_out * group_in;
              for (std::int64_t i = 0; i < group_in; ++i) {
                const std::int64_t w = ((o * group_in + i) * kh + ky) * kw + kx;
                dx[pixel + i] += dy * weight[w];
                if (needs_dw) dw[w] += dy * x[pixel + i];
              }
            }
          }
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
