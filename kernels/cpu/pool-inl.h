// Pools over any window: every output is the fold of the window's pixels inside of the map.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// Layout: (n, h, w, c). One task makes an output row; vectors run over the channels. Pixels are
// folded row by row, so that bytes do not depend on place or threads. Memory binds.
#if defined(TESSERA_KERNELS_CPU_POOL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_POOL_INL_H_
#undef TESSERA_KERNELS_CPU_POOL_INL_H_
#else
#define TESSERA_KERNELS_CPU_POOL_INL_H_
#endif

#include "kernels/cpu/vector-inl.h"
#include "kernels/pool.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// Output row `index` of all n * ho rows of T: y = finish(fold(...fold(start, x0), x1...), rows,
// columns), where the last two say how many taps the window has along each axis.
template <class T, class Fold, class Finish>
void pool_row(const Window& window, const TensorView& x, const TensorView& y, std::int64_t index,
              float start, const Fold& fold, const Finish& finish) {
  const std::int64_t h = x.shape()[1], w = x.shape()[2], ho = y.shape()[1], wo = y.shape()[2];
  const auto c = static_cast<std::size_t>(x.shape()[3]);
  const PoolTaps rows = pool_taps(window, 0, index % ho, h);
  const T* image = x.as<T>() + static_cast<std::size_t>(index / ho * h * w) * c;
  T* out = y.as<T>() + static_cast<std::size_t>(index * wo) * c;
  for (std::int64_t j = 0; j < wo; ++j, out += c) {
    const PoolTaps columns = pool_taps(window, 1, j, w);
    const auto folded = [&](std::size_t channel, const auto& get) HWY_ATTR {
      FloatVector value = hn::Set(FloatTag(), start);
      for (std::int64_t a = rows.first; a < rows.end; ++a) {
        const std::int64_t row = (rows.start + a * window.dilation[0]) * w + columns.start;
        for (std::int64_t b = columns.first; b < columns.end; ++b) {
          const std::int64_t pixel = row + b * window.dilation[1];
          value = fold(value, get(image + static_cast<std::size_t>(pixel) * c + channel));
        }
      }
      return finish(value, rows, columns);
    };
    std::size_t k = 0;
    for (; k + kFloatLanes <= c; k += kFloatLanes)
      store(folded(k, [](const T* p) HWY_ATTR { return load(p); }), out + k);
    if (const std::size_t rest = c - k; rest > 0)
      store_first(folded(k, [rest](const T* p) HWY_ATTR { return load_first(p, rest); }), out + k,
                  rest);
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
