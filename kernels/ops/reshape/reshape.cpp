#include "kernels/ops/reshape/reshape.h"

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Reshape& op, Types inputs) {
  require_inputs("reshape", inputs, 1);
  const TensorType& x = inputs[0];
  require_elements("reshape", x);
  require(op.shape.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "reshape makes at most {} axes, not {}", Shape::kMaxRank, op.shape.size());
  const std::int64_t elements = x.shape.elements();
  std::vector<std::int64_t> extents;
  std::int64_t known = 1, open = -1;
  for (const int asked : op.shape) {
    const auto axis = static_cast<int>(extents.size());
    require(asked >= -1 && (asked != 0 || axis < x.shape.rank()) && (asked != -1 || open < 0),
            "reshape: extent {} of axis {} has no meaning for {}", asked, axis, x);
    if (asked == -1) open = axis;
    extents.push_back(asked == 0 ? x.shape[axis] : asked == -1 ? 1 : asked);
    // Checked at each step, so that hostile extents cannot overflow.
    require(extents.back() <= elements / known, "reshape: {} has no {} elements for axis {}", x,
            extents.back(), axis);
    known *= extents.back();
  }
  if (open >= 0) extents[static_cast<std::size_t>(open)] = elements / known;
  const Shape y(extents);
  require(y.elements() == elements, "reshape: {} has not as many elements as {}", x, y);
  return {{x.dtype, y}};
}

std::vector<Parameter> parameters(const Reshape&, Types) {
  return {};
}

Cost cost(const Reshape& op, Types inputs) {
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

Extent extent(const Reshape&, const Along& along, std::span<const Interval>) {
  return global_extent(along);
}

Reshape part(const Reshape& op, const Along&, Extent&) {
  return op;
}

}  // namespace tessera
