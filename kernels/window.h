// The window that convolutions and pools slide over an image: rows first, then columns.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/operator.h"

namespace tessera {

struct Window {
  std::array<int, 2> kernel{1, 1};
  std::array<int, 2> stride{1, 1};
  std::array<int, 2> dilation{1, 1};
  // Zeros before and behind the rows, then the columns: top, bottom, left, right. One below zero
  // leaves out what the map holds, as a piece of a larger map needs it.
  std::array<int, 4> pads{0, 0, 0, 0};

  bool operator==(const Window&) const = default;

  // Elements from the first that a window reads to the last, along axis 0 (rows) or 1.
  int reach(std::size_t axis) const { return (kernel[axis] - 1) * dilation[axis] + 1; }
  int before(std::size_t axis) const { return pads[2 * axis]; }
  int behind(std::size_t axis) const { return pads[2 * axis + 1]; }
  // What outputs `y` read, padding too.
  Interval reads(std::size_t axis, Interval y) const {
    return {y.begin * stride[axis] - before(axis),
            (y.end - 1) * stride[axis] - before(axis) + reach(axis)};
  }
  // The window of a piece that makes outputs `y` of the whole from its elements `x`.
  Window piece(std::size_t axis, Interval y, Interval x) const {
    Window result = *this;
    result.pads[2 * axis] = static_cast<int>(x.begin - reads(axis, y).begin);
    result.pads[2 * axis + 1] = static_cast<int>(reads(axis, y).end - x.end);
    return result;
  }
  // How many windows fit; below 1 where none does.
  std::int64_t outputs(std::size_t axis, std::int64_t size) const {
    const std::int64_t room = size + before(axis) + behind(axis) - reach(axis);
    return room < 0 ? 0 : room / stride[axis] + 1;
  }
  bool is_square(int k) const { return kernel == std::array{k, k}; }
  // Neighbouring outputs read neighbouring inputs.
  bool is_dense() const { return stride == std::array{1, 1} && dilation == std::array{1, 1}; }
  bool has_even_pads() const {
    return pads[0] == pads[1] && pads[0] == pads[2] && pads[0] == pads[3];
  }
};

// k x k with `pad` zeros on each side.
inline Window square(int k, int pad = 0, int stride = 1) {
  return {.kernel = {k, k},
          .stride = {stride, stride},
          .dilation = {1, 1},
          .pads = {pad, pad, pad, pad}};
}
inline Window same(int k) {
  return square(k, k / 2);
}  // of an odd k: as many outputs as inputs

void fields(auto&& visit, Of<Window> auto& window) {
  visit("kernel", window.kernel, Range{1, 1 << 12});
  visit("stride", window.stride, Range{1, 1 << 12});
  visit("dilation", window.dilation, Range{1, 1 << 12});
  visit("pads", window.pads, Range{-(1 << 24), 1 << 24});
}

}  // namespace tessera
