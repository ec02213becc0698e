#include "kernels/ops/activation/activation.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Activation&, Types inputs) {
  require_inputs("activation", inputs, 1);
  require_floats("activation", inputs[0]);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const Activation&, Types) {
  return {};
}

Cost cost(const Activation& op, Types inputs) {
  // A sigmoid: about 16 for the exponential, 4 around it.
  const double each = op.kind == Activation::Kind::kRelu ? 1 : 20;
  return {each * static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

Extent extent(const Activation&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Activation part(const Activation& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
