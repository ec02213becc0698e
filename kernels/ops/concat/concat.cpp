#include "kernels/ops/concat/concat.h"

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Concat& op, Types inputs) {
  require(!inputs.empty(), "concat takes at least 1 input, but got none: connect what it joins");
  const int axis = axis_of("concat", op.axis, inputs[0].shape.rank());
  TensorType y = inputs[0];
  y.shape[axis] = 0;
  for (const TensorType& x : inputs) {
    require_elements("concat", x);
    TensorType other = x;
    if (axis < x.shape.rank()) other.shape[axis] = inputs[0].shape[axis];
    require(other == inputs[0],
            "concat joins tensors that differ along axis {} alone, but got {} and {}: check the "
            "sizes of what it joins",
            axis, inputs[0], x);
    y.shape[axis] += x.shape[axis];
  }
  return {y};
}

std::vector<Parameter> parameters(const Concat&, Types) {
  return {};
}

Cost cost(const Concat& op, Types inputs) {
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

namespace {

bool joins_along(const Concat& op, int axis) {
  constexpr int kImageRank = 4;
  return op.axis == axis || op.axis == axis - kImageRank;
}

}  // namespace

Extent extent(const Concat& op, const Along& along, std::span<const Interval> wanted) {
  return joins_along(op, along.axis) ? global_extent(along) : elementwise_extent(along, wanted);
}

Concat part(const Concat& op, const Along& along, Extent& piece) {
  if (!joins_along(op, along.axis)) take_all(piece);
  return op;
}

}  // namespace tessera
