#include "kernels/ops/dropout/dropout.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Dropout& op, Types inputs) {
  require_inputs("dropout", inputs, 1);
  require_floats("dropout", inputs[0]);
  require(op.rate >= 0 && op.rate <= 1,
          "dropout takes a rate in [0, 1], but got {}: correct the model", op.rate);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const Dropout&, Types) {
  return {};
}

Cost cost(const Dropout& op, Types inputs) {
  return {0, bytes_moved(op, inputs)};
}

Extent extent(const Dropout&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Dropout part(const Dropout& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
