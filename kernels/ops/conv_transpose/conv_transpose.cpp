#include "kernels/ops/conv_transpose/conv_transpose.h"

#include "kernels/check.h"

namespace tessera {

namespace {

void check(const ConvTranspose& op, Types inputs) {
  require(op.kernel == 2 || op.kernel == 3, "conv_transpose: kernel must be 2 or 3, not {}",
          op.kernel);
  require(op.c_out > 0, "conv_transpose: c_out must be positive, not {}", op.c_out);
  require(is_float(op.dtype), "conv_transpose: the output is f32, bf16 or f16, not {}",
          name_of(op.dtype));
  require(inputs.size() == 1, "conv_transpose: one input expected, {} given", inputs.size());
  const TensorType& x = inputs[0];
  require(x.shape.rank() == 4 && is_float(x.dtype),
          "conv_transpose: the input must be f32, bf16 or f16 (n, h, w, c), not {}", x.to_string());
  for (std::int64_t extent : x.shape.dims())
    require(extent > 0, "conv_transpose: the input must not be empty, but is {}", x.to_string());
}

}  // namespace

std::vector<TensorType> infer(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  const Shape& x = inputs[0].shape;
  return {{op.dtype, {x[0], 2 * x[1], 2 * x[2], op.c_out}}};
}

std::vector<Parameter> parameters(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  constexpr double kStrideArea = 4;  // output pixels that share the taps of one input pixel
  const std::int64_t c_in = inputs[0].shape[3];
  const auto taps = static_cast<double>(c_in * op.kernel * op.kernel);
  std::vector<Parameter> list{
      {"weight", {c_in, op.c_out, op.kernel, op.kernel}, Role::kWeight, he(taps / kStrideArea)}};
  if (op.bias) list.push_back(bias(op.c_out));
  return list;
}

Cost cost(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  // Every input pixel meets every filter tap once; those that fall off the border hardly count.
  const double pixels = static_cast<double>(inputs[0].shape.elements(0, 3));
  const double taps = op.kernel * op.kernel;
  const double channels = static_cast<double>(inputs[0].shape[3]) * op.c_out;
  return {2 * pixels * taps * channels, bytes_moved(op, inputs)};
}

// Output o reads input o / 2; with 3x3 an odd one also reads the next.
Extent extent(const ConvTranspose& op, const Along& along, std::span<const Interval> wanted) {
  const Interval y = wanted[0];
  const std::int64_t last = op.kernel == 3 ? y.end / 2 : (y.end - 1) / 2;
  return {{y}, {clip({y.begin / 2, last + 1}, along.inputs[0])}};
}

// It makes two of each that it is given. With 3x3 the last lacks the input behind it; whoever wants
// that one has asked for the input.
ConvTranspose part(const ConvTranspose& op, const Along&, Extent& piece) {
  piece.outputs[0] = {2 * piece.inputs[0].begin, 2 * piece.inputs[0].end};
  return op;
}

}  // namespace tessera
