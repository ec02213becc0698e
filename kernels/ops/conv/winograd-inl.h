// Winograd F(4x4, 3x3): its sizes and B^T x B, which the convolution and the gradient of its
// weights share.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
#if defined(TESSERA_KERNELS_CONV_WINOGRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CONV_WINOGRAD_INL_H_
#undef TESSERA_KERNELS_CONV_WINOGRAD_INL_H_
#else
#define TESSERA_KERNELS_CONV_WINOGRAD_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/conv/geometry.h"
#include "kernels/ops/conv/winograd.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// to = B^T from
HWY_INLINE void transform_input(const FloatVector (&from)[6], FloatVector (&to)[6]) {
  const FloatTag d;
  const FloatVector two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), five = hn::Set(d, 5.0f);
  const FloatVector even = hn::NegMulAdd(four, from[2], from[4]);
  const FloatVector odd = hn::NegMulAdd(four, from[1], from[3]);
  const FloatVector near = hn::Sub(from[4], from[2]), far = hn::Sub(from[3], from[1]);
  to[0] = hn::MulAdd(four, from[0], hn::NegMulAdd(five, from[2], from[4]));
  to[1] = hn::Add(even, odd);
  to[2] = hn::Sub(even, odd);
  to[3] = hn::MulAdd(two, far, near);
  to[4] = hn::NegMulAdd(two, far, near);
  to[5] = hn::MulAdd(four, from[1], hn::NegMulAdd(five, from[3], from[5]));
}

// One vector of channels of one window: v[36] = B^T x B. Pixel (y, x) is at x + y down + x right.
HWY_INLINE void transform_window(const float* x, std::ptrdiff_t down, std::ptrdiff_t right,
                                 float* v, std::size_t stride) {
  FloatVector half[6][6];  // (column, frequency of y)
  for (std::ptrdiff_t column = 0; column < 6; ++column) {
    FloatVector pixels[6];
    for (std::ptrdiff_t y = 0; y < 6; ++y) pixels[y] = load(x + y * down + column * right);
    transform_input(pixels, half[column]);
  }
  for (std::size_t i = 0; i < 6; ++i) {
    FloatVector line[6], result[6];
    for (std::size_t column = 0; column < 6; ++column) line[column] = half[column][i];
    transform_input(line, result);
    for (std::size_t j = 0; j < 6; ++j) store(result[j], v + (i * 6 + j) * stride);
  }
}

// The pixels of a source that the joined map shows.
struct Visible {
  std::int64_t y_begin, y_end, x_begin, x_end;

  bool contains(std::int64_t y, std::int64_t x, std::int64_t side) const {
    return y >= y_begin && y + side <= y_end && x >= x_begin && x + side <= x_end;
  }
};

// The first `count` channels, from `channel` on, of the window at (y, x) of a source; zeros where
// it is not visible and in the channels behind.
HWY_NOINLINE inline void transform_border(const ConvSource& s, const float* image,
                                          const Visible& visible, std::int64_t y, std::int64_t x,
                                          std::int64_t channel, std::size_t count, float* v,
                                          std::size_t stride) {
  alignas(64) float window[kFrequencies * kLine] = {};
  for (std::int64_t i = 0; i < kWindow; ++i) {
    for (std::int64_t j = 0; j < kWindow; ++j) {
      if (!visible.contains(y + i, x + j, 1)) continue;
      std::memcpy(window + static_cast<std::size_t>(i * kWindow + j) * kLine,
                  image + ((y + i) * s.w + x + j) * s.c + channel, count * sizeof(float));
    }
  }
  transform_window(window, kWindow * kLine, kLine, v, stride);
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
