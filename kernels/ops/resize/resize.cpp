#include "kernels/ops/resize/resize.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"

namespace tessera {

namespace {

constexpr std::int64_t kMostPixels = 1 << 24;

double scale_of(const Resize& op, std::size_t axis) {
  return axis == 0 ? op.scale_h : op.scale_w;
}

std::int64_t outputs_of(const Resize& op, std::size_t axis, std::int64_t size) {
  if (op.sizes[axis] > 0) return op.sizes[axis];
  const double outputs = std::floor(static_cast<double>(size) * scale_of(op, axis));
  require(outputs >= 1 && outputs <= kMostPixels,
          "resize: {} pixels times {} must be within 1 .. {}", size, scale_of(op, axis),
          kMostPixels);
  return static_cast<std::int64_t>(outputs);
}

// Where output `i` of `outputs` lies among `size` inputs.
double source(const Resize& op, std::size_t axis, std::int64_t i, std::int64_t size,
              std::int64_t outputs) {
  using Coordinates = Resize::Coordinates;
  const auto at = static_cast<double>(i), in = static_cast<double>(size),
             out = static_cast<double>(outputs);
  // By sizes: one division, so that a whole number stays one.
  const auto shrink = [&](double x) {
    return op.sizes[axis] > 0 && op.stretch ? x * in / out : x / scale_of(op, axis);
  };
  switch (op.coordinates) {
    case Coordinates::kHalfPixel:
      return shrink(at + 0.5) - 0.5;
    case Coordinates::kPytorchHalfPixel:
      return outputs > 1 ? shrink(at + 0.5) - 0.5 : 0;
    case Coordinates::kAlignCorners:
      return outputs > 1 ? at * (in - 1) / (out - 1) : 0;
    case Coordinates::kAsymmetric:
      return shrink(at);
  }
  return at;
}

double rounded(Resize::Nearest nearest, double x) {
  switch (nearest) {
    case Resize::Nearest::kRoundPreferFloor:
      return std::ceil(x - 0.5);
    case Resize::Nearest::kRoundPreferCeil:
      return std::floor(x + 0.5);
    case Resize::Nearest::kFloor:
      return std::floor(x);
    case Resize::Nearest::kCeil:
      return std::ceil(x);
  }
  return x;
}

// Weight of a pixel at `distance` (Keys 1981, equation 15 with PyTorch's a).
double cubic(double distance) {
  constexpr double a = -0.75;
  const double d = std::abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

ResizeTaps taps_at(const Resize& op, double x, std::int64_t size) {
  ResizeTaps taps;
  const auto add = [&](double pixel, double weight) {
    const auto k = static_cast<std::size_t>(taps.count++);
    taps.index[k] = std::clamp<std::int64_t>(static_cast<std::int64_t>(pixel), 0, size - 1);
    taps.weight[k] = weight;
  };
  const double floor = std::floor(x), part = x - floor;
  switch (op.mode) {
    case Resize::Mode::kNearest:
      add(rounded(op.nearest, x), 1);
      break;
    case Resize::Mode::kLinear:
      add(floor, 1 - part);
      add(floor + 1, part);
      break;
    case Resize::Mode::kCubic:
      for (const double offset : {-1.0, 0.0, 1.0, 2.0}) add(floor + offset, cubic(part - offset));
      break;
  }
  return taps;
}

}  // namespace

Resize sized(Resize op, Types inputs) {
  require(inputs.size() == 1 || inputs.size() == 2,
          "resize takes an image, and another whose size it gets; got {} inputs", inputs.size());
  for (const TensorType& input : inputs) require_image("resize", input);
  if (inputs.size() == 1) return op;
  for (const std::size_t axis : {0u, 1u}) {
    if (op.pieces[axis].whole > 0) continue;  // the size of the whole, which it has got
    const std::int64_t size = inputs[1].shape[1 + static_cast<int>(axis)];
    require(size >= 1 && size <= kMostPixels, "resize: {} pixels must be within 1 .. {}", size,
            kMostPixels);
    op.sizes[axis] = static_cast<int>(size);
  }
  return op;
}

std::vector<ResizeTaps> resize_taps(const Resize& op, std::size_t axis, std::int64_t size) {
  const Resize::Piece& piece = op.pieces[axis];
  if (piece.whole > 0) size = piece.whole;
  const std::int64_t outputs = outputs_of(op, axis, size);
  const Interval made = piece.whole > 0 ? piece.made : Interval{0, outputs};
  std::vector<ResizeTaps> list;
  for (std::int64_t i = made.begin; i < made.end; ++i) {
    ResizeTaps taps = taps_at(op, source(op, axis, i, size, outputs), size);
    for (std::int64_t& index : taps.index) index -= piece.held;
    list.push_back(taps);
  }
  return list;
}

std::vector<TensorType> infer(const Resize& op, Types inputs) {
  const Resize to = sized(op, inputs);
  TensorType y = inputs[0];
  for (const std::size_t side : {0u, 1u}) {
    std::int64_t& size = y.shape[static_cast<int>(side) + 1];
    size = to.pieces[side].whole > 0 ? to.pieces[side].made.size() : outputs_of(to, side, size);
  }
  return {y};
}

std::vector<Parameter> parameters(const Resize&, Types) {
  return {};
}

Cost cost(const Resize& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  const double taps = op.mode == Resize::Mode::kCubic    ? 16
                      : op.mode == Resize::Mode::kLinear ? 4
                                                         : 0;
  return {2 * taps * outputs, bytes_moved(op, inputs)};
}

Extent extent(const Resize& op, const Along& along, std::span<const Interval> wanted) {
  const Interval y = wanted[0];
  const std::int64_t size = along.inputs[0], outputs = along.outputs[0];
  Resize whole = op;
  if (along.inputs.size() == 2) whole.sizes[along.side()] = static_cast<int>(outputs);
  Interval x;
  for (const std::int64_t i : {y.begin, y.end - 1}) {  // sources rise with the outputs
    const ResizeTaps taps = taps_at(op, source(whole, along.side(), i, size, outputs), size);
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps.count); ++k)
      x = hull(x, {taps.index[k], taps.index[k] + 1});
  }
  Extent piece{{y}, {x}};
  // Of the map whose size it gets nothing is read: it is what others hold of it.
  if (along.inputs.size() == 2) piece.inputs.push_back(y);
  return piece;
}

Resize part(const Resize& op, const Along& along, Extent& piece) {
  Resize result = op;
  const std::size_t side = along.side();
  if (along.inputs.size() == 2) result.sizes[side] = static_cast<int>(along.outputs[0]);
  result.pieces[side] = {along.inputs[0], piece.inputs[0].begin, piece.outputs[0]};
  return result;
}

}  // namespace tessera
