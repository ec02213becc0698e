// Batch normalisation at inference:  y = scale x + shift, per channel (the last axis).
//
// Scale and shift are made once in double. They are repeated until whole vectors fit a whole number
// of pixels, so that one flat loop serves every channel count, 3 as well as 64.
// Roofline: memory; 2 operations for every 2 elements moved. The engine fuses it into the
// convolution before it where it can.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/batch_norm/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

template <class T>
void affine_typed(const T* x, std::size_t count, const float* scale, const float* shift,
                  std::size_t period, T* y) {
  for (std::size_t first = 0; first < count; first += period) {
    map(x + first, std::min(period, count - first), y + first,
        [&](std::size_t i, FloatVector v)
            HWY_ATTR { return hn::MulAdd(v, load(scale + i), load(shift + i)); });
  }
}

// Elements [first, first + count); `first` is a multiple of `period`, the length of scale and
// shift.
void affine_range(const TensorView& x, std::size_t first, std::size_t count, const float* scale,
                  const float* shift, std::size_t period, const TensorView& y) {
  if (x.type.dtype == DType::kBF16) {
    affine_typed(x.as<hwy::bfloat16_t>() + first, count, scale, shift, period,
                 y.as<hwy::bfloat16_t>() + first);
  } else {
    affine_typed(x.as<float>() + first, count, scale, shift, period, y.as<float>() + first);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <numeric>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/batch_norm/batch_norm.h"

namespace tessera {

HWY_EXPORT(affine_range);

Step cpu(const BatchNorm& op, const CpuSetup& setup) {
  constexpr std::size_t kMaxLanes = 16;     // of any target
  constexpr std::size_t kPiece = 1u << 14;  // elements of one task, at least
  const TensorType type = infer(op, setup.inputs)[0];
  const auto count = static_cast<std::size_t>(type.shape.elements());
  const auto c = static_cast<std::size_t>(type.shape[-1]);
  const std::size_t period = std::lcm(c, kMaxLanes);
  const std::size_t piece = (kPiece + period - 1) / period * period;
  const auto packed =
      setup.packed->get(setup.name + "/affine", 2 * period * sizeof(float), [&](std::byte* memory) {
        const Affine affine = affine_of(op, setup.weights);
        auto* scale = reinterpret_cast<float*>(memory);
        for (std::size_t i = 0; i < period; ++i) {
          scale[i] = static_cast<float>(affine.scale[i % c]);
          scale[period + i] = static_cast<float>(affine.shift[i % c]);
        }
      });
  return {0, [=, threads = setup.threads](const Operands& operands, std::byte*) {
            const auto* scale = reinterpret_cast<const float*>(packed->get());
            const auto pieces = static_cast<std::int64_t>((count + piece - 1) / piece);
            parallel_for(threads, pieces, [&](std::int64_t i) {
              const std::size_t first = static_cast<std::size_t>(i) * piece;
              HWY_DYNAMIC_DISPATCH(affine_range)
              (operands.inputs[0], first, std::min(piece, count - first), scale, scale + period,
               period, operands.outputs[0]);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
