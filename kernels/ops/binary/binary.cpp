#include "kernels/ops/binary/binary.h"

#include <algorithm>

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Binary&, Types inputs) {
  require_inputs("binary", inputs, 2);
  for (const TensorType& input : inputs) require_floats("binary", input);
  const bool a_is_longer = inputs[0].shape.rank() >= inputs[1].shape.rank();
  const TensorType &longer = inputs[a_is_longer ? 0 : 1], &other = inputs[a_is_longer ? 1 : 0];
  TensorType y = longer;
  for (int axis = 1; axis <= other.shape.rank(); ++axis) {
    std::int64_t& extent = y.shape[-axis];
    const std::int64_t theirs = other.shape[-axis];
    require(extent == theirs || extent == 1 || theirs == 1,
            "binary: {} and {} do not broadcast: extents must be equal, or one of them 1",
            inputs[0].to_string(), inputs[1].to_string());
    extent = std::max(extent, theirs);
  }
  if (size_of(other.dtype) < size_of(y.dtype)) y.dtype = other.dtype;
  require(size_of(longer.dtype) != size_of(other.dtype) || longer.dtype == other.dtype,
          "binary takes bf16 or f16, but got {} and {}: convert one of them", inputs[0].to_string(),
          inputs[1].to_string());
  return {y};
}

std::vector<Parameter> parameters(const Binary&, Types) {
  return {};
}

Cost cost(const Binary& op, Types inputs) {
  return {static_cast<double>(infer(op, inputs)[0].shape.elements()), bytes_moved(op, inputs)};
}

// An input of one element along the axis is read by all outputs.
Extent extent(const Binary&, const Along& along, std::span<const Interval> wanted) {
  Extent piece = elementwise_extent(along, wanted);
  for (std::size_t i = 0; i < 2; ++i)
    if (along.inputs[i] != along.outputs[0]) piece.inputs[i] = {0, along.inputs[i]};
  return piece;
}

Binary part(const Binary& op, const Along& along, Extent& piece) {
  Interval held;
  for (std::size_t i = 0; i < 2; ++i)
    if (along.inputs[i] == along.outputs[0]) held = hull(held, piece.inputs[i]);
  for (std::size_t i = 0; i < 2; ++i)
    if (along.inputs[i] == along.outputs[0]) piece.inputs[i] = held;
  piece.outputs[0] = held;
  return op;
}

}  // namespace tessera
