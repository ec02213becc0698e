#include "kernels/ops/layer_norm/layer_norm.h"

#include "kernels/check.h"
#include "kernels/ops/group_norm/group_norm.h"

namespace tessera {

namespace {

// Each row is an image of one pixel with one group.
GroupNorm as_group_norm(const LayerNorm& op) {
  return {.groups = 1, .eps = op.eps, .affine = op.affine};
}

TensorView as_rows(const TensorView& x) {
  const Shape& shape = x.shape();
  return {x.pointer, {x.type.dtype, {shape.elements(0, shape.rank() - 1), shape[-1]}}};
}

}  // namespace

std::vector<TensorType> infer(const LayerNorm& op, Types inputs) {
  require_inputs("layer_norm", inputs, 1);
  require_channels("layer_norm", inputs[0]);
  require(op.eps >= 0, "layer_norm takes eps >= 0, but got {}: correct the model", op.eps);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const LayerNorm& op, Types inputs) {
  infer(op, inputs);
  const TensorType row{inputs[0].dtype, {1, inputs[0].shape[-1]}};
  return parameters(as_group_norm(op), {&row, 1});
}

Cost cost(const LayerNorm& op, Types inputs) {
  return {6 * static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

void reference(const LayerNorm& op, const Operands& operands) {
  const TensorView x = as_rows(operands.inputs[0]), y = as_rows(operands.outputs[0]);
  reference(as_group_norm(op), {{&x, 1}, operands.weights, {&y, 1}});
}

Extent extent(const LayerNorm&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

LayerNorm part(const LayerNorm& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
