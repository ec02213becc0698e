#include "kernels/ops/linear/linear.h"

namespace tessera {

std::vector<TensorType> infer(const Linear& op, Types inputs) {
  require(op.units > 0, "linear: units must be positive, not {}", op.units);
  require(inputs.size() == 1, "linear: expected 1 input (x), found {}", inputs.size());
  const TensorType& x = inputs[0];
  require(x.dtype == DType::kF32 && x.shape.rank() >= 1 && x.shape[-1] > 0,
          "linear: x must be f32 (..., features) with features > 0, not {}", x);
  Shape y = x.shape;
  y[-1] = op.units;
  return {{DType::kF32, y}};
}

std::vector<Parameter> parameters(const Linear& op, Types inputs) {
  const std::int64_t features = inputs[0].shape[-1];
  std::vector<Parameter> list{
      {"weight", {op.units, features}, Role::kWeight, glorot(features, op.units)}};
  if (op.bias) list.push_back(bias(op.units));
  return list;
}

Cost cost(const Linear& op, Types inputs) {
  const auto multiplications = static_cast<double>(inputs[0].shape.elements()) * op.units;
  return {2 * multiplications, bytes_moved(op, inputs)};
}

Extent extent(const Linear&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Linear part(const Linear& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
