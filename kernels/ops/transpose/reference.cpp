#include "kernels/ops/transpose/transpose.h"
#include "kernels/strides.h"

namespace tessera {

void reference(const Transpose& op, const Operands& operands) {
  const TensorView &x = operands.inputs[0], &y = operands.outputs[0];
  const Strides dense = strides_of(x.shape());
  Strides strides{};
  std::size_t axis = 0;
  for (const int from : order_of(op, x.type))
    strides[axis++] = dense[static_cast<std::size_t>(from)];
  walk(y.shape(), std::array<Strides, 1>{strides},
       [&](std::int64_t i, const auto& from) { copy_element(x, from[0], y, i); });
}

}  // namespace tessera
