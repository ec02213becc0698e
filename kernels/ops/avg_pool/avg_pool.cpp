#include "kernels/ops/avg_pool/avg_pool.h"

#include "kernels/pool.h"

namespace tessera {

std::vector<TensorType> infer(const AvgPool& op, Types inputs) {
  return {pool_type("avg_pool", op.window, op.ceil_mode, inputs)};
}

std::vector<Parameter> parameters(const AvgPool&, Types) {
  return {};
}

Cost cost(const AvgPool& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  const double taps = static_cast<double>(op.window.kernel[0]) * op.window.kernel[1];
  return {taps * outputs, bytes_moved(op, inputs)};  // taps - 1 sums and a product
}

}  // namespace tessera
