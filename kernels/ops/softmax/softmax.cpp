#include "kernels/ops/softmax/softmax.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Softmax&, Types inputs) {
  require_inputs("softmax", inputs, 1);
  require_channels("softmax", inputs[0]);
  constexpr std::int64_t kMaxClasses = 1 << 24;
  require(inputs[0].shape[-1] <= kMaxClasses,
          "softmax takes at most {} classes, but got {}: reduce the last axis", kMaxClasses,
          inputs[0]);
  return {{DType::kF32, inputs[0].shape}};
}

std::vector<Parameter> parameters(const Softmax&, Types) {
  return {};
}

Cost cost(const Softmax& op, Types inputs) {
  // About 16 for the exponential; maximum, difference, sum and quotient.
  return {20 * static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

Extent extent(const Softmax&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Softmax part(const Softmax& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
