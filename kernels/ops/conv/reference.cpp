#include "kernels/cpu/convert.h"
#include "kernels/ops/conv/geometry.h"
#include "kernels/ops/max_pool/max_pool.h"

namespace tessera {

namespace {

// Channel values of one pixel of the joined, zero-padded input.
class JoinedInput {
 public:
  JoinedInput(const ConvGeometry& geometry, const Operands& operands) : g_(geometry) {
    for (const ConvSource& source : g_.sources)
      values_.push_back(to_f32(operands.inputs[source.input]));
  }

  double at(std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t c) const {
    if (y < 0 || y >= g_.h || x < 0 || x >= g_.w) return 0;
    std::size_t i = 0;
    while (c >= g_.sources[i].c) c -= g_.sources[i++].c;
    const ConvSource& s = g_.sources[i];
    y += s.dy, x += s.dx;
    if (y < 0 || y >= s.h || x < 0 || x >= s.w) return 0;
    return values_[i][static_cast<std::size_t>(((n * s.h + y) * s.w + x) * s.c + c)];
  }

 private:
  const ConvGeometry& g_;
  std::vector<std::vector<float>> values_;
};

}  // namespace

void reference(const Conv& op, const Operands& operands) {
  std::vector<TensorType> types;
  for (const TensorView& input : operands.inputs) types.push_back(input.type);
  const ConvGeometry g = geometry_of(op, types);
  const JoinedInput input(g, operands);
  const std::vector<float> weight = to_f32(operands.weights[0]);  // (c_out, c_in / groups, kh, kw)
  Affine affine;
  if (op.norm != Conv::Norm::kNone)
    affine = affine_of(op.batch_norm, operands.weights.subspan(op.bias ? 2 : 1, 4));

  float* y = operands.outputs[0].as<float>();
  const auto [kh, kw] = op.window.kernel;
  const auto [stride_y, stride_x] = op.window.stride;
  const auto [dilation_y, dilation_x] = op.window.dilation;
  const std::int64_t c_in = g.c_in / op.groups, group = g.c_out / op.groups;
  for (std::int64_t n = 0; n < g.n; ++n) {
    for (std::int64_t oy = 0; oy < g.ho; ++oy) {
      for (std::int64_t ox = 0; ox < g.wo; ++ox) {
        for (std::int64_t o = 0; o < g.c_out; ++o) {
          double sum = op.bias ? element_f32(operands.weights[1], o) : 0.0;
          for (std::int64_t i = 0; i < c_in; ++i)
            for (std::int64_t ky = 0; ky < kh; ++ky)
              for (std::int64_t kx = 0; kx < kw; ++kx)
                sum += input.at(n, oy * stride_y + ky * dilation_y - g.top,
                                ox * stride_x + kx * dilation_x - g.left, o / group * c_in + i) *
                       weight[static_cast<std::size_t>(((o * c_in + i) * kh + ky) * kw + kx)];
          const auto channel = static_cast<std::size_t>(o);
          if (op.norm == Conv::Norm::kBeforeRelu)
            sum = sum * affine.scale[channel] + affine.shift[channel];
          const std::int64_t index = ((n * g.ho + oy) * g.wo + ox) * g.c_out + o;
          sum = reference_epilogue(op.epilogue, operands, index, sum);
          if (op.relu && sum < 0) sum = 0;
          if (op.norm == Conv::Norm::kAfterRelu)
            sum = sum * affine.scale[channel] + affine.shift[channel];
          y[index] = static_cast<float>(sum);
        }
      }
    }
  }
  if (op.pool) reference(MaxPool{}, {operands.outputs.first(1), {}, operands.outputs.subspan(1)});
}

}  // namespace tessera
