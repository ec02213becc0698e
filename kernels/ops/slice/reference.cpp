#include "kernels/ops/slice/slice.h"
#include "kernels/strides.h"

namespace tessera {

void reference(const Slice& op, const Operands& operands) {
  const TensorView &x = operands.inputs[0], &y = operands.outputs[0];
  Strides strides = strides_of(x.shape());
  std::int64_t first = 0;
  std::size_t axis = 0;
  for (const SliceSpan& span : slice_spans(op, x.type)) {
    first += span.start * strides[axis];
    strides[axis++] *= span.step;
  }
  walk(y.shape(), std::array<Strides, 1>{strides},
       [&](std::int64_t i, const auto& from) { copy_element(x, first + from[0], y, i); });
}

}  // namespace tessera
