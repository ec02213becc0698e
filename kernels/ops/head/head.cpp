#include "kernels/ops/head/head.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Head& op, Types inputs) {
  require_inputs("head", inputs, 1);
  require_image("head", inputs[0]);
  require(op.classes >= 1 && op.classes <= 256,
          "head takes 1 to 256 classes (ids are u8), but got {}: correct the model", op.classes);
  require(op.classes > 1 || op.output == Head::Output::kSigmoid,
          "head got a softmax over {} class, whose probability is always 1: use a sigmoid",
          op.classes);
  const Shape& x = inputs[0].shape;
  std::vector<TensorType> outputs{{DType::kU8, {x[0], x[1], x[2]}}};
  if (op.probabilities) outputs.push_back({DType::kF32, {x[0], x[1], x[2], op.classes}});
  return outputs;
}

std::vector<Parameter> parameters(const Head& op, Types inputs) {
  require_inputs("head", inputs, 1);
  require_image("head", inputs[0]);
  const std::int64_t c_in = inputs[0].shape[3];
  std::vector<Parameter> list{
      {"weight", {op.classes, c_in, 1, 1}, Role::kWeight, he(static_cast<double>(c_in))}};
  if (op.bias) list.push_back(bias(op.classes));
  return list;
}

Cost cost(const Head& op, Types inputs) {
  const Shape& x = inputs[0].shape;
  const double logits = static_cast<double>(x.elements(0, 3)) * op.classes;
  // Per logit: the dot product, then about 20 for the probability and the comparison.
  return {logits * (2 * static_cast<double>(x[3]) + 20), bytes_moved(op, inputs)};
}

Extent extent(const Head&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Head part(const Head& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
