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
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(unpool_row);

Saved saved_for_backward(const MaxPool& op, Types) {
  require(is_halving(op),
          "max_pool: training knows 2x2 of stride 2 alone, not {}x{} of stride {}x{}",
          op.window.kernel[0], op.window.kernel[1], op.window.stride[0], op.window.stride[1]);
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const MaxPool& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
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
