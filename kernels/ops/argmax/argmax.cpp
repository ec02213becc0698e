#include "kernels/ops/argmax/argmax.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Argmax&, Types inputs) {
  require_inputs("argmax", inputs, 1);
  require_channels("argmax", inputs[0]);
  const Shape& x = inputs[0].shape;
  require(x[-1] <= 256, "argmax takes at most 256 classes (ids are u8), but got {}: merge classes",
          inputs[0]);
  return {{DType::kU8, Shape(x.dims().first(static_cast<std::size_t>(x.rank() - 1)))}};
}

std::vector<Parameter> parameters(const Argmax&, Types) {
  return {};
}

Cost cost(const Argmax& op, Types inputs) {
  return {static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

Extent extent(const Argmax&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

Argmax part(const Argmax& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
