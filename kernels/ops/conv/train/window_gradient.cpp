// Each row of g and each tap are one product over the pixels of the row, whose operands are rows of
// the maps as they lie: g with its channels apart, m with a stride of several pixels. Rows are
// dealt to kSlots sums, whose number depends on shapes alone and which are added in order.
// Roofline: arithmetic from about 32 channels on.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv/train/window_gradient.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/ops/conv/train/window_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// sums (groups, kh, kw, co / groups, c / groups) += products of row `row` of all images' g.
void multiply_window_row(const WindowGradient& plan, const float* m, const float* g,
                         std::int64_t row, float* sums) {
  const std::int64_t image = row / plan.ho, y = row % plan.ho;
  const auto c = static_cast<std::size_t>(plan.c / plan.groups);
  const auto co = static_cast<std::size_t>(plan.co / plan.groups);
  const auto stride = static_cast<std::size_t>(plan.window.stride[1] * plan.c);
  for (std::int64_t group = 0; group < plan.groups; ++group) {
    for (std::int64_t ky = 0; ky < plan.window.kernel[0]; ++ky) {
      const std::int64_t from = plan.read(0, y, ky);
      for (std::int64_t kx = 0; kx < plan.window.kernel[1]; ++kx, sums += c * co) {
        if (from < 0 || from >= plan.h) continue;
        const Interval x = plan.inside(1, kx);
        if (x.end <= x.begin) continue;
        const float* left =
            g + (row * plan.wo + x.begin) * plan.co + group * static_cast<std::int64_t>(co);
        const float* right =
            m + ((image * plan.h + from) * plan.w + plan.read(1, x.begin, kx)) * plan.c +
            group * static_cast<std::int64_t>(c);
        gemm_transposed({left, static_cast<std::size_t>(plan.co)}, {right, stride},
                        static_cast<std::size_t>(x.end - x.begin), co, c, sums, c);
      }
    }
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(multiply_window_row);

namespace {

std::int64_t window_slots(const WindowGradient& plan) {
  constexpr std::int64_t kSlots = 16;
  constexpr std::int64_t kMostFloats = (32 << 20) / sizeof(float);  // of all slots together
  return std::min(
      {kSlots, plan.n * plan.ho, std::max<std::int64_t>(1, kMostFloats / plan.weights())});
}

}  // namespace

Interval WindowGradient::inside(std::size_t axis, std::int64_t k) const {
  const std::int64_t stride = window.stride[axis], size = axis == 0 ? h : w;
  const std::int64_t outputs = axis == 0 ? ho : wo;
  const std::int64_t shift = k * window.dilation[axis] - window.before(axis);
  const auto first_from = [&](std::int64_t place) {  // the first pixel that reads at `place` or on
    return std::clamp<std::int64_t>((place - shift + stride - 1) / stride, 0, outputs);
  };
  // Rounding towards zero would move a negative quotient up.
  const std::int64_t begin = shift >= 0 ? 0 : first_from(0);
  const std::int64_t end = size <= shift ? 0 : first_from(size);
  return {begin, std::max(begin, end)};
}

std::size_t window_gradient_scratch(const WindowGradient& plan) {
  return static_cast<std::size_t>(window_slots(plan) * plan.weights()) * sizeof(float);
}

void add_window_gradient(const WindowGradient& plan, int threads, const float* m, const float* g,
                         float* weight_gradient, std::byte* scratch) {
  const std::int64_t slots = window_slots(plan), count = plan.weights();
  auto* sums = reinterpret_cast<float*>(scratch);
  parallel_for(threads, slots, [&](std::int64_t slot) {
    std::fill_n(sums + slot * count, count, 0.0f);
    for (std::int64_t row = slot; row < plan.n * plan.ho; row += slots)
      HWY_DYNAMIC_DISPATCH(multiply_window_row)(plan, m, g, row, sums + slot * count);
  });
  const std::int64_t taps = std::int64_t{plan.window.kernel[0]} * plan.window.kernel[1];
  const std::int64_t c = plan.c / plan.groups, co = plan.co / plan.groups;
  parallel_for(threads, plan.co, [&](std::int64_t o) {
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      const float* from = sums + ((o / co * taps + tap) * co + o % co) * c;
      for (std::int64_t i = 0; i < c; ++i) {
        float sum = from[i];
        for (std::int64_t slot = 1; slot < slots; ++slot) sum += from[slot * count + i];
        weight_gradient[(o * c + i) * taps + tap] += sum;
      }
    }
  });
}

}  // namespace tessera
#endif  // HWY_ONCE
