#include "kernels/ops/max_pool/max_pool.h"

#include "kernels/pool.h"

namespace tessera {

std::vector<TensorType> infer(const MaxPool& op, Types inputs) {
  return {pool_type("max_pool", op.window, op.ceil_mode, inputs)};
}

std::vector<Parameter> parameters(const MaxPool&, Types) {
  return {};
}

Cost cost(const MaxPool& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  const double taps = static_cast<double>(op.window.kernel[0]) * op.window.kernel[1];
  return {(taps - 1) * outputs, bytes_moved(op, inputs)};  // a comparison each
}

}  // namespace tessera
