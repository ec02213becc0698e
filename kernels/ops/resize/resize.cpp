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
  require(outputs >= 1 && outputs <= kMostPixels, "resize: {} pixels times {} must be within 1 .. {}",
          size, scale_of(op, axis), kMostPixels);
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
    const std::int64_t size = inputs[1].shape[1 + static_cast<int>(axis)];
    require(size >= 1 && size <= kMostPixels, "resize: {} pixels must be within 1 .. {}", size,
            kMostPixels);
    op.sizes[axis] = static_cast<int>(size);
  }
  return op;
}

std::vector<ResizeTaps> resize_taps(const Resize& op, std::size_t axis, std::int64_t size) {
  const std::int64_t outputs = outputs_of(op, axis, size);
  std::vector<ResizeTaps> list;
  for (std::int64_t i = 0; i < outputs; ++i)
    list.push_back(taps_at(op, source(op, axis, i, size, outputs), size));
  return list;
}

std::vector<TensorType> infer(const Resize& op, Types inputs) {
  const Resize to = sized(op, inputs);
  const Shape& x = inputs[0].shape;
  return {{inputs[0].dtype, {x[0], outputs_of(to, 0, x[1]), outputs_of(to, 1, x[2]), x[3]}}};
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

}  // namespace tessera
