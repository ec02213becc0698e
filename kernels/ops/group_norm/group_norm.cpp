#include "kernels/ops/group_norm/group_norm.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const GroupNorm& op, Types inputs) {
  require_inputs("group_norm", inputs, op.epilogue.residual ? 2 : 1);
  require(inputs[0].shape.rank() >= 2, "group_norm takes (n, ..., c), but got {}: add an axis",
          inputs[0]);
  require_floats("group_norm", inputs[0]);
  const std::int64_t c = inputs[0].shape[-1];
  require(op.groups >= 0 && (op.groups == 0 || c % op.groups == 0),
          "group_norm: {} channels do not divide into {} groups", c, op.groups);
  require(op.eps >= 0, "group_norm takes eps >= 0, but got {}: correct the model", op.eps);
  check_epilogue("group_norm", op.epilogue, inputs[0], inputs);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const GroupNorm& op, Types inputs) {
  infer(op, inputs);
  std::vector<Parameter> list;
  const std::int64_t c = inputs[0].shape[-1];
  if (op.affine)
    list = {{"weight", {c}, Role::kScale, constant(1)}, {"bias", {c}, Role::kShift, constant(0)}};
  add_parameters(op.epilogue, inputs[0], list);
  return list;
}

Cost cost(const GroupNorm& op, Types inputs) {
  // Sum and sum of squares, then the affine map; x is read twice.
  return {6 * static_cast<double>(inputs[0].shape.elements()),
          bytes_moved(op, inputs) + static_cast<double>(inputs[0].bytes())};
}

Extent extent(const GroupNorm&, const Along& along, std::span<const Interval>) {
  return global_extent(along);
}

GroupNorm part(const GroupNorm& op, const Along&, Extent&) {
  return op;
}

}  // namespace tessera
