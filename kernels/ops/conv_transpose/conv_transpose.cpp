#include "kernels/ops/conv_transpose/conv_transpose.h"

#include "kernels/check.h"

namespace tessera {

namespace {

void check(const ConvTranspose& op, Types inputs) {
  require(op.kernel == 0 || op.kernel == 2 || op.kernel == 3,
          "conv_transpose: kernel must be 2 or 3, or 0 where a window says more, not {}",
          op.kernel);
  const Window& w = op.window;
  for (const int value : {w.kernel[0], w.kernel[1], w.stride[0], w.stride[1], w.dilation[0],
                          w.dilation[1], op.groups})
    require(value > 0,
            "conv_transpose: window, stride, dilation and groups must be positive, not {}", value);
  require(op.c_out > 0, "conv_transpose: c_out must be positive, not {}", op.c_out);
  require(is_float(op.dtype), "conv_transpose: the output is f32, bf16 or f16, not {}",
          name_of(op.dtype));
  require(inputs.size() == 1, "conv_transpose: one input expected, {} given", inputs.size());
  const TensorType& x = inputs[0];
  require(x.shape.rank() == 4 && is_float(x.dtype),
          "conv_transpose: the input must be f32, bf16 or f16 (n, h, w, c), not {}", x);
  for (std::int64_t extent : x.shape.dims())
    require(extent > 0, "conv_transpose: the input must not be empty, but is {}", x);
  require(is_doubling(op) ? op.window == Window() && op.groups == 1
                          : x.shape[3] % op.groups == 0 && op.c_out % op.groups == 0,
          "conv_transpose: {} to {} channels do not go with kernel {} and {} groups: groups divide "
          "both, and they and a window need kernel 0",
          x.shape[3], op.c_out, op.kernel, op.groups);
}

}  // namespace

Window window_of(const ConvTranspose& op) {
  if (!is_doubling(op)) return op.window;
  Window window = square(op.kernel, 0, 2);
  if (op.kernel == 3) window.pads = {1, 0, 1, 0};
  return window;
}

ConvTranspose conv_transpose_of(int c_out, const Window& window, int groups, bool bias) {
  for (const int kernel : {2, 3}) {
    const ConvTranspose doubling{.c_out = c_out, .kernel = kernel, .bias = bias};
    if (groups == 1 && window == window_of(doubling)) return doubling;
  }
  return {.c_out = c_out, .kernel = 0, .bias = bias, .window = window, .groups = groups};
}

std::vector<TensorType> infer(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  const Shape& x = inputs[0].shape;
  const Window window = window_of(op);
  TensorType y{op.dtype, {x[0], 0, 0, op.c_out}};
  for (const std::size_t axis : {0u, 1u}) {
    const auto at = static_cast<int>(axis) + 1;
    y.shape[at] = (x[at] - 1) * window.stride[axis] + window.reach(axis) - window.before(axis) -
                  window.behind(axis);
    require(y.shape[at] > 0,
            "conv_transpose leaves nothing of {}: its window reaches {} pixels, {} and {} of which "
            "are cut off",
            x, window.reach(axis), window.before(axis), window.behind(axis));
  }
  return {y};
}

std::vector<Parameter> parameters(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  const Window window = window_of(op);
  // Output pixels that share the taps of one input pixel.
  const double stride_area = static_cast<double>(window.stride[0]) * window.stride[1];
  const std::int64_t c_in = inputs[0].shape[3];
  const Shape shape{c_in, op.c_out / op.groups, window.kernel[0], window.kernel[1]};
  const auto taps = static_cast<double>(c_in / op.groups * shape.elements(2, 4));
  std::vector<Parameter> list{{"weight", shape, Role::kWeight, he(taps / stride_area)}};
  if (op.bias) list.push_back(bias(op.c_out));
  return list;
}

Cost cost(const ConvTranspose& op, Types inputs) {
  check(op, inputs);
  // Every input pixel meets every filter tap once; those that fall off the border hardly count.
  const double pixels = static_cast<double>(inputs[0].shape.elements(0, 3));
  const Window window = window_of(op);
  const double taps = static_cast<double>(window.kernel[0]) * window.kernel[1];
  const double channels = static_cast<double>(inputs[0].shape[3]) * op.c_out / op.groups;
  return {2 * pixels * taps * channels, bytes_moved(op, inputs)};
}

// Output o reads input o / 2; with 3x3 an odd one also reads the next.
Extent extent(const ConvTranspose& op, const Along& along, std::span<const Interval> wanted) {
  const Window window = window_of(op);
  const std::size_t side = along.side();
  const std::int64_t stride = window.stride[side];
  // Input i reaches elements i stride to i stride + reach - 1 of the map that is not cropped yet.
  const std::int64_t begin = wanted[0].begin + window.before(side) - window.reach(side) + 1;
  const std::int64_t end = wanted[0].end - 1 + window.before(side);
  const std::int64_t first = begin <= 0 ? 0 : (begin + stride - 1) / stride;
  return {{wanted[0]}, {clip({first, (end < 0 ? 0 : end / stride) + 1}, along.inputs[0])}};
}

ConvTranspose part(const ConvTranspose& op, const Along& along, Extent& piece) {
  if (is_doubling(op)) {
    // It makes two of each that it is given, as the kernels do. With 3x3 the last lacks the input
    // behind it; whoever wants that one has asked for the input.
    piece.outputs[0] = {2 * piece.inputs[0].begin, 2 * piece.inputs[0].end};
    return op;
  }
  ConvTranspose result = op;
  const std::size_t side = along.side();
  const Interval x = piece.inputs[0], y = piece.outputs[0];
  const std::int64_t stride = op.window.stride[side];
  const std::int64_t before = y.begin + op.window.before(side) - x.begin * stride;
  const std::int64_t made = (x.size() - 1) * stride + op.window.reach(side);
  result.window.pads[2 * side] = static_cast<int>(before);
  result.window.pads[2 * side + 1] = static_cast<int>(made - before - y.size());
  return result;
}

}  // namespace tessera
