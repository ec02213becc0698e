// Backward of MaxPool: one task per row of dy writes the two rows of dx below it.
//
// Vectors run over the channels; which pixel wins is decided anew from x, which costs less than
// keeping an index would. Memory binds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/max_pool/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/max_pool/train/backward.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// The four pixels of one vector of channels; `get` and `put` reach memory.
template <class Get, class Put>
HWY_INLINE void unpool(const Get& get, const Put& put, const float* x, std::size_t right,
                       std::size_t down, const float* dy, float* dx) {
  const FloatVector zero = hn::Zero(FloatTag()), gradient = get(dy);
  const std::size_t offsets[4] = {0, right, down, down + right};
  FloatVector best = get(x);
  auto index = zero;  // of the winner, as a float
  for (std::size_t pixel = 1; pixel < 4; ++pixel) {
    const FloatVector value = get(x + offsets[pixel]);
    // "not <=" so that a NaN wins, but not from a NaN.
    const auto wins = hn::AndNot(hn::IsNaN(best), hn::Not(hn::Le(value, best)));
    best = hn::IfThenElse(wins, value, best);
    index = hn::IfThenElse(wins, hn::Set(FloatTag(), static_cast<float>(pixel)), index);
  }
  for (std::size_t pixel = 0; pixel < 4; ++pixel) {
    const auto won = hn::Eq(index, hn::Set(FloatTag(), static_cast<float>(pixel)));
    put(hn::IfThenElse(won, gradient, zero), dx + offsets[pixel]);
  }
}

// `columns` pixels of one row of dy.
void unpool_row(const float* x, std::size_t columns, std::size_t channels, std::size_t row,
                const float* dy, float* dx) {
  for (std::size_t j = 0; j < columns; ++j, x += 2 * channels, dx += 2 * channels, dy += channels) {
    std::size_t c = 0;
    for (; c + kFloatLanes <= channels; c += kFloatLanes)
      unpool([](const float* p) HWY_ATTR { return load(p); },
             [](FloatVector v, float* p) HWY_ATTR { store(v, p); }, x + c, channels, row, dy + c,
             dx + c);
    if (const std::size_t rest = channels - c; rest > 0)
      unpool([rest](const float* p) HWY_ATTR { return load_first(p, rest); },
             [rest](FloatVector v, float* p) HWY_ATTR { store_first(v, p, rest); }, x + c, channels,
             row, dy + c, dx + c);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/pool.h"

namespace tessera {

HWY_EXPORT(unpool_row);

namespace {

// Windows of any kind, which may share pixels: one task for each image and block of channels.
BackwardStep window_backward(const MaxPool& op, const CpuSetup& setup) {
  constexpr std::int64_t kBlock = 16;  // channels: a cache line
  const Shape x_shape = setup.inputs[0].shape, y_shape = infer(op, setup.inputs)[0].shape;
  const auto run = [=, window = op.window, threads = setup.threads](
                       const BackwardOperands& operands, std::byte*) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const std::int64_t h = x_shape[1], w = x_shape[2], c = x_shape[3];
    const std::int64_t blocks = (c + kBlock - 1) / kBlock;
    const auto* x = operands.inputs[0].as<float>();
    const auto* dy = operands.output_gradients[0].as<float>();
    auto* dx = gradient->as<float>();
    parallel_for(threads, x_shape[0] * blocks, [&](std::int64_t task) {
      const std::int64_t n = task / blocks, first = task % blocks * kBlock;
      const std::int64_t count = std::min(kBlock, c - first);
      for (std::int64_t pixel = n * h * w; pixel < (n + 1) * h * w; ++pixel)
        std::fill_n(dx + pixel * c + first, count, 0.0f);
      for (std::int64_t i = 0; i < y_shape[1]; ++i) {
        const PoolTaps rows = pool_taps(window, 0, i, h);
        for (std::int64_t j = 0; j < y_shape[2]; ++j) {
          const PoolTaps columns = pool_taps(window, 1, j, w);
          const float* from = dy + ((n * y_shape[1] + i) * y_shape[2] + j) * c + first;
          for (std::int64_t k = 0; k < count; ++k) {
            std::int64_t winner = -1;
            float best = 0;
            for (std::int64_t ky = rows.first; ky < rows.end; ++ky) {
              const std::int64_t row = n * h + rows.start + ky * window.dilation[0];
              for (std::int64_t kx = columns.first; kx < columns.end; ++kx) {
                const std::int64_t at =
                    (row * w + columns.start + kx * window.dilation[1]) * c + first + k;
                // "not <=" so that a NaN wins, but not from a NaN.
                if (winner >= 0 && (x[at] <= best || std::isnan(best))) continue;
                winner = at;
                best = x[at];
              }
            }
            if (winner >= 0) dx[winner] += from[k];  // dilation may step over a small map
          }
        }
      }
    });
  };
  return {0, run};
}

}  // namespace

Saved saved_for_backward(const MaxPool&, Types) {
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const MaxPool& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  if (!is_halving(op)) return window_backward(op, setup);
  const Shape shape = setup.inputs[0].shape;
  const auto run = [shape, threads = setup.threads](const BackwardOperands& operands, std::byte*) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const std::int64_t h = shape[1], w = shape[2], c = shape[3], row = w * c;
    const auto* x = operands.inputs[0].as<float>();
    const auto* dy = operands.output_gradients[0].as<float>();
    auto* dx = gradient->as<float>();
    // An odd last row is a task of its own, with nothing to gather.
    const std::int64_t tasks = (h + 1) / 2;
    parallel_for(threads, shape[0] * tasks, [&](std::int64_t index) {
      const std::int64_t n = index / tasks, i = index % tasks;
      const std::int64_t first = (n * h + 2 * i) * row;
      if (2 * i + 1 == h) {
        std::fill_n(dx + first, row, 0.0f);
        return;
      }
      HWY_DYNAMIC_DISPATCH(unpool_row)
      (x + first, static_cast<std::size_t>(w / 2), static_cast<std::size_t>(c),
       static_cast<std::size_t>(row), dy + (n * (h / 2) + i) * (w / 2) * c, dx + first);
      if (w % 2 == 0) return;
      std::fill_n(dx + first + row - c, c, 0.0f);
      std::fill_n(dx + first + 2 * row - c, c, 0.0f);
    });
  };
  return {0, run};
}

}  // namespace tessera
#endif  // HWY_ONCE
