#include "kernels/ops/max_pool/max_pool.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const MaxPool&, Types inputs) {
  require_inputs("max_pool", inputs, 1);
  require_image("max_pool", inputs[0]);
  const Shape& x = inputs[0].shape;
  require(x[1] >= 2 && x[2] >= 2,
          "max_pool takes at least 2 rows and 2 columns, but got {}: use a larger image",
          inputs[0].to_string());
  return {{inputs[0].dtype, {x[0], x[1] / 2, x[2] / 2, x[3]}}};
}

std::vector<Parameter> parameters(const MaxPool&, Types) {
  return {};
}

Cost cost(const MaxPool& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  return {3 * outputs, bytes_moved(op, inputs)};  // three comparisons each
}

Extent extent(const MaxPool&, const Along&, std::span<const Interval> wanted) {
  const Interval y = wanted[0];
  return {{y}, {{2 * y.begin, 2 * y.end}}};
}

// It takes whole pairs, and makes one of each.
MaxPool part(const MaxPool& op, const Along&, Extent& piece) {
  Interval& x = piece.inputs[0];
  x.begin -= x.begin % 2;
  piece.outputs[0] = {x.begin / 2, x.end / 2};
  return op;
}

}  // namespace tessera
