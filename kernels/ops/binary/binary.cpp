#include "kernels/ops/binary/binary.h"

#include <algorithm>

#include "kernels/check.h"

namespace tessera {

std::array<TensorType, 2> operand_types(const Binary& op, Types inputs) {
  require_inputs("binary", inputs, op.constant.empty() ? 2 : 1);
  for (const TensorType& input : inputs) require_floats("binary", input);
  if (op.constant.empty()) return {inputs[0], inputs[1]};
  const std::vector<std::int64_t> extents(op.constant.begin(), op.constant.end());
  require(extents.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "binary takes a constant of at most {} axes, not {}", Shape::kMaxRank, extents.size());
  const TensorType constant{inputs[0].dtype, Shape(extents)};
  require_floats("binary", constant);
  return op.reversed ? std::array{constant, inputs[0]} : std::array{inputs[0], constant};
}

std::vector<TensorType> infer(const Binary& op, Types inputs) {
  const std::array<TensorType, 2> operands = operand_types(op, inputs);
  const bool a_is_longer = operands[0].shape.rank() >= operands[1].shape.rank();
  const TensorType &longer = operands[a_is_longer ? 0 : 1], &other = operands[a_is_longer ? 1 : 0];
  TensorType y = longer;
  for (int axis = 1; axis <= other.shape.rank(); ++axis) {
    std::int64_t& extent = y.shape[-axis];
    const std::int64_t theirs = other.shape[-axis];
    require(extent == theirs || extent == 1 || theirs == 1,
            "binary: {} and {} do not broadcast: extents must be equal, or one of them 1",
            operands[0], operands[1]);
    extent = std::max(extent, theirs);
  }
  if (size_of(other.dtype) < size_of(y.dtype)) y.dtype = other.dtype;
  require(size_of(longer.dtype) != size_of(other.dtype) || longer.dtype == other.dtype,
          "binary takes bf16 or f16, but got {} and {}: convert one of them", operands[0],
          operands[1]);
  return {y};
}

std::vector<Parameter> parameters(const Binary& op, Types inputs) {
  if (op.constant.empty()) return {};
  const TensorType constant = operand_types(op, inputs)[op.reversed ? 0 : 1];
  return {{"value", constant.shape, Role::kStatistic, tessera::constant(0)}};
}

Cost cost(const Binary& op, Types inputs) {
  return {static_cast<double>(infer(op, inputs)[0].shape.elements()), bytes_moved(op, inputs)};
}

namespace {

// Whether the constant differs from place to place along an axis of an image.
bool constant_varies(const Binary& op, int axis) {
  constexpr int kImageRank = 4;
  const int at = axis - (kImageRank - static_cast<int>(op.constant.size()));
  return at >= 0 && op.constant[static_cast<std::size_t>(at)] > 1;
}

}  // namespace

// An input of one element along the axis is read by all outputs.
Extent extent(const Binary& op, const Along& along, std::span<const Interval> wanted) {
  if (constant_varies(op, along.axis)) return global_extent(along);
  Extent piece = elementwise_extent(along, wanted);
  for (std::size_t i = 0; i < along.inputs.size(); ++i)
    if (along.inputs[i] != along.outputs[0]) piece.inputs[i] = {0, along.inputs[i]};
  return piece;
}

Binary part(const Binary& op, const Along& along, Extent& piece) {
  if (constant_varies(op, along.axis)) return op;
  Interval held;
  for (std::size_t i = 0; i < along.inputs.size(); ++i)
    if (along.inputs[i] == along.outputs[0]) held = hull(held, piece.inputs[i]);
  for (std::size_t i = 0; i < along.inputs.size(); ++i)
    if (along.inputs[i] == along.outputs[0]) piece.inputs[i] = held;
  piece.outputs[0] = held;
  return op;
}

}  // namespace tessera
