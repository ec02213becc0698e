// What pools have in common: how many windows there are, and what each of them holds.
#pragma once

#include <algorithm>
#include <string_view>

#include "kernels/check.h"
#include "kernels/window.h"

namespace tessera {

// Windows along an axis of `size` pixels. `ceil_mode` counts a last one that leaves the padded map,
// if it begins inside of the map or the padding before it (torch.nn.MaxPool2d).
inline std::int64_t pool_outputs(const Window& window, bool ceil_mode, std::size_t axis,
                                 std::int64_t size) {
  const std::int64_t floor = window.outputs(axis, size), stride = window.stride[axis];
  const std::int64_t room = size + window.before(axis) + window.behind(axis) - window.reach(axis);
  if (!ceil_mode || room < 0 || room % stride == 0) return floor;
  return floor * stride < size + window.before(axis) ? floor + 1 : floor;
}

// The output's type of input (n, h, w, c). Throws where no window fits, or one may hold no pixel.
inline TensorType pool_type(std::string_view op, const Window& window, bool ceil_mode,
                            Types inputs) {
  require_inputs(op, inputs, 1);
  require_image(op, inputs[0]);
  TensorType y = inputs[0];
  for (const std::size_t axis : {0u, 1u}) {
    require(window.kernel[axis] > 0 && window.stride[axis] > 0 && window.dilation[axis] > 0,
            "{}: kernel, stride and dilation must be positive", op);
    require(window.before(axis) < window.reach(axis) && window.behind(axis) < window.reach(axis),
            "{}: pads must be smaller than the window, {}, but are {} and {}: a window would hold "
            "no pixel",
            op, window.reach(axis), window.before(axis), window.behind(axis));
    std::int64_t& size = y.shape[static_cast<int>(axis) + 1];
    const std::int64_t least = window.reach(axis) - window.before(axis) - window.behind(axis);
    require(size >= least, "{} takes at least {} {}, but got {}: use a larger image", op, least,
            axis == 0 ? "rows" : "columns", inputs[0]);
    size = pool_outputs(window, ceil_mode, axis, size);
  }
  return y;
}

// What a piece of a pool reads, and the window that makes it, whose last one ends with the
// padding.
inline Extent pool_extent(const Window& window, const Along& along, Interval y) {
  return {{y}, {clip(window.reads(along.side(), y), along.inputs[0])}};
}
inline Window pool_part(const Window& window, const Along& along, const Extent& piece) {
  return window.piece(along.side(), piece.outputs[0], piece.inputs[0]);
}

// The taps [first, end) of window `i` that lie inside of the map; tap k reads pixel start + k
// dilation. A last window of ceil_mode has taps behind the padding, which even `padded`, the number
// of taps in map and padding, leaves out.
struct PoolTaps {
  std::int64_t start = 0, first = 0, end = 0, padded = 0;
};
inline PoolTaps pool_taps(const Window& window, std::size_t axis, std::int64_t i,
                          std::int64_t size) {
  const std::int64_t d = window.dilation[axis], k = window.kernel[axis];
  const std::int64_t start = i * window.stride[axis] - window.before(axis);
  const auto taps_before = [&](std::int64_t pixel) {  // whose pixels are below `pixel`
    return std::clamp<std::int64_t>((pixel - start + d - 1) / d, 0, k);
  };
  const std::int64_t end = taps_before(size);
  return {start, std::min(taps_before(0), end), end, taps_before(size + window.behind(axis))};
}

}  // namespace tessera
