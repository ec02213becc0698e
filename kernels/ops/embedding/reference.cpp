#include "kernels/cpu/convert.h"
#include "kernels/ops/embedding/embedding.h"

namespace tessera {

void reference(const Embedding& op, const Operands& operands) {
  const TensorView &ids = operands.inputs[0], &table = operands.weights[0];
  require_ids(op, ids);
  auto* y = operands.outputs[0].as<float>();
  for (std::int64_t i = 0; i < ids.shape().elements(); ++i) {
    for (std::int64_t j = 0; j < op.features; ++j)
      *y++ = element_f32(table, ids.as<std::int32_t>()[i] * std::int64_t{op.features} + j);
  }
}

}  // namespace tessera
