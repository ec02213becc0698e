// Max-pooling. NaN wins, as in PyTorch.
//
// Layout: (n, h, w, c). One task per output row; vectors run over the channels. 2x2 of stride 2
// reads two input rows as streams; other windows are folded by kernels/cpu/pool-inl.h.
// Roofline: memory; 3 comparisons for every 5 elements moved by 2x2.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/max_pool/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/pool-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/max_pool/max_pool.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

template <class T>
void max_pool_pixels(const T* top, std::size_t row, std::size_t pixels, std::size_t c, T* y) {
  for (std::size_t j = 0; j < pixels; ++j, top += 2 * c, y += c) {
    std::size_t k = 0;
    for (; k + kFloatLanes <= c; k += kFloatLanes) {
      const T* p = top + k;
      store(max_or_nan(max_or_nan(load(p), load(p + c)),
                       max_or_nan(load(p + row), load(p + row + c))),
            y + k);
    }
    if (const std::size_t rest = c - k; rest > 0) {
      const T* p = top + k;
      store_first(max_or_nan(max_or_nan(load_first(p, rest), load_first(p + c, rest)),
                             max_or_nan(load_first(p + row, rest), load_first(p + row + c, rest))),
                  y + k, rest);
    }
  }
}

// Output row `index` of all n * ho rows.
void max_pool_row_of_window(const Window& window, const TensorView& x, const TensorView& y,
                            std::int64_t index) {
  const auto larger = [](FloatVector a, FloatVector b) HWY_ATTR { return max_or_nan(a, b); };
  const auto same = [](FloatVector v, const PoolTaps&, const PoolTaps&) HWY_ATTR { return v; };
  if (x.type.dtype == DType::kBF16) {
    pool_row<hwy::bfloat16_t>(window, x, y, index, -INFINITY, larger, same);
  } else {
    pool_row<float>(window, x, y, index, -INFINITY, larger, same);
  }
}

// The same of 2x2, stride 2, no pads.
void max_pool_row_halving(const TensorView& x, const TensorView& y, std::int64_t index) {
  const std::int64_t h = x.shape()[1], h_out = y.shape()[1];
  const auto c = static_cast<std::size_t>(x.shape()[3]);
  const auto row = static_cast<std::size_t>(x.shape()[2]) * c;
  const auto pixels = static_cast<std::size_t>(y.shape()[2]);
  const auto first = static_cast<std::size_t>(index / h_out * h + index % h_out * 2) * row;
  const auto out = static_cast<std::size_t>(index) * pixels * c;
  if (x.type.dtype == DType::kBF16) {
    max_pool_pixels(x.as<hwy::bfloat16_t>() + first, row, pixels, c, y.as<hwy::bfloat16_t>() + out);
  } else {
    max_pool_pixels(x.as<float>() + first, row, pixels, c, y.as<float>() + out);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(max_pool_row_of_window);
HWY_EXPORT(max_pool_row_halving);

Step cpu(const MaxPool& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  return {0, [op, threads = setup.threads](const Operands& operands, std::byte*) {
            const TensorView& x = operands.inputs[0];
            const TensorView& y = operands.outputs[0];
            parallel_for(threads, y.shape()[0] * y.shape()[1], [&](std::int64_t row) {
              if (is_halving(op)) {
                HWY_DYNAMIC_DISPATCH(max_pool_row_halving)(x, y, row);
              } else {
                HWY_DYNAMIC_DISPATCH(max_pool_row_of_window)(op.window, x, y, row);
              }
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
