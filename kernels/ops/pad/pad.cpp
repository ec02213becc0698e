#include "kernels/ops/pad/pad.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Pad& op, Types inputs) {
  require_inputs("pad", inputs, 1);
  require_floats("pad", inputs[0]);
  TensorType y = inputs[0];
  const int rank = y.shape.rank();
  require(op.pads.size() == 2 * static_cast<std::size_t>(rank),
          "pad takes {} pads for {} (before each axis, then behind each), but got {}", 2 * rank, y,
          op.pads.size());
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t before = op.pads[static_cast<std::size_t>(axis)];
    const std::int64_t behind = op.pads[static_cast<std::size_t>(axis + rank)];
    std::int64_t& extent = y.shape[axis];
    require(op.mode != Pad::Mode::kReflect || (before < extent && behind < extent),
            "pad: reflecting takes pads below the extent, {} of axis {}, but got {} and {}", extent,
            axis, before, behind);
    extent += before + behind;
    require(extent > 0, "pad: {} and {} leave nothing of axis {} of {}", before, behind, axis,
            inputs[0]);
  }
  return {y};
}

std::vector<Parameter> parameters(const Pad&, Types) {
  return {};
}

Cost cost(const Pad& op, Types inputs) {
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

Extent extent(const Pad& op, const Along& along, std::span<const Interval> wanted) {
  const auto before = op.pads[static_cast<std::size_t>(along.axis)];
  const std::int64_t size = along.inputs[0];
  const Interval y = wanted[0], at{y.begin - before, y.end - before};
  Interval x = clip(at, size);
  if (op.mode == Pad::Mode::kReflect) {  // The mirrors are the map's first and last elements.
    if (at.begin < 0) x = hull(x, {0, std::min(1 - at.begin, size)});
    if (at.end > size) x = hull(x, {std::max<std::int64_t>(2 * size - at.end - 1, 0), size});
  }
  return {{y}, {x}};
}

Pad part(const Pad& op, const Along& along, Extent& piece) {
  Pad result = op;
  const auto axis = static_cast<std::size_t>(along.axis);
  const int before = op.pads[axis];
  const Interval y = piece.outputs[0], x = piece.inputs[0];
  result.pads[axis] = static_cast<int>(x.begin - y.begin + before);
  result.pads[axis + op.pads.size() / 2] = static_cast<int>(y.end - before - x.end);
  return result;
}

}  // namespace tessera
