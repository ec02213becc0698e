#include "kernels/ops/transpose/transpose.h"

#include "kernels/axes.h"
#include "kernels/check.h"

namespace tessera {

std::vector<int> order_of(const Transpose& op, const TensorType& x) {
  const int rank = x.shape.rank();
  std::vector<int> order = op.order;
  for (int axis = rank; op.order.empty() && axis > 0; --axis) order.push_back(axis - 1);
  unsigned seen = 0;
  for (int& axis : order) seen |= 1u << (axis = axis_of("transpose", axis, rank));
  require(order.size() == static_cast<std::size_t>(rank) && seen == (1u << rank) - 1,
          "transpose takes each axis of {} once, but got {} axes: correct the order", x,
          order.size());
  return order;
}

std::vector<TensorType> infer(const Transpose& op, Types inputs) {
  require_inputs("transpose", inputs, 1);
  require_elements("transpose", inputs[0]);
  TensorType y = inputs[0];
  int axis = 0;
  for (const int from : order_of(op, inputs[0])) y.shape[axis++] = inputs[0].shape[from];
  return {y};
}

std::vector<Parameter> parameters(const Transpose&, Types) {
  return {};
}

Cost cost(const Transpose& op, Types inputs) {
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

Extent extent(const Transpose&, const Along& along, std::span<const Interval>) {
  return global_extent(along);
}

Transpose part(const Transpose& op, const Along&, Extent&) {
  return op;
}

}  // namespace tessera
