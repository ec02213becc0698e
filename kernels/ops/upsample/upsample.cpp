#include "kernels/ops/upsample/upsample.h"

#include "kernels/check.h"

namespace tessera {

std::vector<TensorType> infer(const Upsample&, Types inputs) {
  require_inputs("upsample", inputs, 1);
  require_image("upsample", inputs[0]);
  const Shape& x = inputs[0].shape;
  return {{inputs[0].dtype, {x[0], 2 * x[1], 2 * x[2], x[3]}}};
}

std::vector<Parameter> parameters(const Upsample&, Types) {
  return {};
}

Cost cost(const Upsample& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  return {9 * outputs, bytes_moved(op, inputs)};  // three interpolations of three operations
}

}  // namespace tessera
