#include <algorithm>

#include "kernels/ops/pad/pad.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

// The element along an axis of `extent` that place `i` shows; -1 for the constant.
std::int64_t source(Pad::Mode mode, std::int64_t i, std::int64_t extent) {
  if (i >= 0 && i < extent) return i;
  if (mode == Pad::Mode::kConstant) return -1;
  if (mode == Pad::Mode::kEdge) return std::clamp<std::int64_t>(i, 0, extent - 1);
  return i < 0 ? -i : 2 * (extent - 1) - i;
}

}  // namespace

void reference(const Pad& op, const Operands& operands) {
  const TensorView &x = operands.inputs[0], &y = operands.outputs[0];
  const Strides strides = strides_of(x.shape());
  for (std::int64_t i = 0; i < y.shape().elements(); ++i) {
    std::int64_t rest = i, from = 0;
    bool inside = true;
    for (int axis = y.shape().rank() - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      const std::int64_t place = rest % y.shape()[axis] - op.pads[a];
      const std::int64_t at = source(op.mode, place, x.shape()[axis]);
      inside = inside && at >= 0;
      from += at * strides[a];
      rest /= y.shape()[axis];
    }
    y.as<float>()[i] = inside ? element_f32(x, from) : static_cast<float>(op.value);
  }
}

}  // namespace tessera
