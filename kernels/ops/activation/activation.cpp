#include "kernels/ops/activation/activation.h"

#include "kernels/check.h"

namespace tessera {

namespace {

// Operations for one element: an exponential is about 16, a division 4.
double operations(Activation::Kind kind) {
  switch (kind) {
    case Activation::Kind::kRelu:
      return 1;
    case Activation::Kind::kLeakyRelu:
    case Activation::Kind::kPrelu:
    case Activation::Kind::kClip:
      return 2;
    case Activation::Kind::kHardSigmoid:
    case Activation::Kind::kHardSwish:
      return 5;
    default:
      return 20;
  }
}

}  // namespace

std::vector<TensorType> infer(const Activation& op, Types inputs) {
  require_inputs("activation", inputs, 1);
  require_floats("activation", inputs[0]);
  require(op.min <= op.max, "activation: clip takes min <= max, but got {} and {}", op.min, op.max);
  require(op.kind != Activation::Kind::kPrelu || inputs[0].shape.rank() > 0,
          "activation: prelu takes channels in the last axis, but got {}", inputs[0]);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const Activation& op, Types inputs) {
  if (op.kind != Activation::Kind::kPrelu) return {};
  infer(op, inputs);
  // A scale: decaying it would turn it into ReLU (He et al. 2015, whose start this is).
  return {{"weight", {op.per_channel ? inputs[0].shape[-1] : 1}, Role::kScale, constant(0.25)}};
}

Cost cost(const Activation& op, Types inputs) {
  return {operations(op.kind) * static_cast<double>(inputs[0].shape.elements()),
          bytes_moved(op, inputs)};
}

Extent extent(const Activation&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Activation part(const Activation& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
