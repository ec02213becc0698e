#include "kernels/ops/reduce/reduce.h"

#include <algorithm>

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

Shape reduced_shape(const Reduce& op, const Shape& x) {
  Shape shape = x;
  for (int axis = 0; op.axes.empty() && axis < x.rank(); ++axis) shape[axis] = 1;
  for (const int axis : op.axes) shape[axis_of("reduce", axis, x.rank())] = 1;
  return shape;
}

std::vector<TensorType> infer(const Reduce& op, Types inputs) {
  require_inputs("reduce", inputs, 1);
  require_floats("reduce", inputs[0]);
  const Shape& x = inputs[0].shape;
  const Shape kept = reduced_shape(op, x);
  if (op.keepdims) return {{inputs[0].dtype, kept}};
  std::array<bool, Shape::kMaxRank> gone{};
  for (int axis = 0; op.axes.empty() && axis < x.rank(); ++axis)
    gone[static_cast<std::size_t>(axis)] = true;
  for (const int axis : op.axes)
    gone[static_cast<std::size_t>(axis_of("reduce", axis, x.rank()))] = true;
  std::vector<std::int64_t> left;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (!gone[static_cast<std::size_t>(axis)]) left.push_back(x[axis]);
  return {{inputs[0].dtype, Shape(left)}};
}

std::vector<Parameter> parameters(const Reduce&, Types) {
  return {};
}

Cost cost(const Reduce& op, Types inputs) {
  return {static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

namespace {

// Whether each output along `axis` reads its own place alone.
bool keeps(const Reduce& op, int axis) {
  constexpr int kImageRank = 4;
  return op.keepdims && !op.axes.empty() &&
         std::none_of(op.axes.begin(), op.axes.end(),
                      [&](int one) { return one == axis || one == axis - kImageRank; });
}

}  // namespace

Extent extent(const Reduce& op, const Along& along, std::span<const Interval> wanted) {
  return keeps(op, along.axis) ? elementwise_extent(along, wanted) : global_extent(along);
}

Reduce part(const Reduce& op, const Along& along, Extent& piece) {
  if (keeps(op, along.axis)) take_all(piece);
  return op;
}

}  // namespace tessera
