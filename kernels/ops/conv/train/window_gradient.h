// Gradient of the weights of a convolution of any window, which a transposed one shares with the
// roles of its maps exchanged:
//
//   dW[o, i, ky, kx] += sum over n, y, x of g[n, y, x, o] m[n, y sh + ky dh - top, x sw + kx dw -
//   left, i]
//
// where o is of the group of i, and m is 0 outside of its map.
#pragma once

#include <cstddef>
#include <functional>

#include "kernels/window.h"

namespace tessera {

struct WindowGradient {
  Window window;
  int groups = 1;
  std::int64_t n = 0;
  std::int64_t h = 0, w = 0, c = 0;     // of the map m that the window slides over
  std::int64_t ho = 0, wo = 0, co = 0;  // of the map g, a pixel for each place of the window

  std::int64_t weights() const { return co * (c / groups) * window.kernel[0] * window.kernel[1]; }
  // Pixels [first, end) of g along an axis for which tap `k` lies inside of m.
  Interval inside(std::size_t axis, std::int64_t k) const;
  // Place of m's row or column that pixel `i` of g reads with tap `k`.
  std::int64_t read(std::size_t axis, std::int64_t i, std::int64_t k) const {
    return i * window.stride[axis] + k * window.dilation[axis] - window.before(axis);
  }
};

std::size_t window_gradient_scratch(const WindowGradient& plan);
void add_window_gradient(const WindowGradient& plan, int threads, const float* m, const float* g,
                         float* weight_gradient, std::byte* scratch);

}  // namespace tessera
