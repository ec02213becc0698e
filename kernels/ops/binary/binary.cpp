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
            operands[0].to_string(), operands[1].to_string());
    extent = std::max(extent, theirs);
  }
  if (size_of(other.dtype) < size_of(y.dtype)) y.dtype = other.dtype;
  require(size_of(longer.dtype) != size_of(other.dtype) || longer.dtype == other.dtype,
          "binary takes bf16 or f16, but got {} and {}: convert one of them",
          operands[0].to_string(), operands[1].to_string());
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

}  // namespace tessera
