#include "kernels/axes.h"
#include "kernels/ops/concat/concat.h"
#include "kernels/strides.h"

namespace tessera {

void reference(const Concat& op, const Operands& operands) {
  const TensorView& y = operands.outputs[0];
  const int axis = axis_of("concat", op.axis, y.shape().rank());
  const Strides strides = strides_of(y.shape());
  std::int64_t first = 0;  // of this input, along the axis
  for (const TensorView& x : operands.inputs) {
    const std::int64_t offset = first * strides[static_cast<std::size_t>(axis)];
    walk(x.shape(), std::array<Strides, 1>{strides},
         [&](std::int64_t i, const auto& to) { copy_element(x, i, y, offset + to[0]); });
    first += x.shape()[axis];
  }
}

}  // namespace tessera
