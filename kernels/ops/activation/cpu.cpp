// Element-wise activation (formulas.h). NaN stays NaN.
//
// One flat loop over all elements, cut into pieces that threads share; the formulas of vectors are
// in vectors-inl.h.
// Roofline: memory; 1 (ReLU) to about 40 (GELU) operations for every 2 elements moved.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/activation/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/ops/activation/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

template <class T>
void activate_typed(const Activation& op, const float* slopes, const T* x, std::size_t count,
                    T* y) {
  with_activation(op, [=](const auto& function) HWY_ATTR {
    map(x, count, y,
        [&](std::size_t i, FloatVector v) HWY_ATTR { return function(slopes + i, v); });
  });
}

// Elements [first, first + count). `slopes` begin at the channel of `first`.
void activate_range(const Activation& op, const float* slopes, const TensorView& x,
                    std::size_t first, std::size_t count, const TensorView& y) {
  if (x.type.dtype == DType::kBF16) {
    activate_typed(op, slopes, x.as<hwy::bfloat16_t>() + first, count,
                   y.as<hwy::bfloat16_t>() + first);
  } else {
    activate_typed(op, slopes, x.as<float>() + first, count, y.as<float>() + first);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/activation/slopes.h"

namespace tessera {

HWY_EXPORT(activate_range);

namespace {

constexpr std::size_t kPiece = 1u << 14;  // elements of one task, at least; stays in L2

}  // namespace

Step cpu(const Activation& op, const CpuSetup& setup) {
  const TensorType type = infer(op, setup.inputs)[0];
  // Slopes are repeated until a piece holds a whole number of pixels.
  std::size_t piece = kPiece;
  if (op.kind == Activation::Kind::kPrelu) {
    const auto c = static_cast<std::size_t>(type.shape[-1]);
    piece = (kPiece + c - 1) / c * c;
  }
  const std::vector<float> slopes = slopes_of(op, setup.weights.data(), piece);
  const auto count = static_cast<std::size_t>(type.shape.elements());
  return {0, [=, threads = setup.threads](const Operands& operands, std::byte*) {
            const auto pieces = static_cast<std::int64_t>((count + piece - 1) / piece);
            parallel_for(threads, pieces, [&](std::int64_t i) {
              const std::size_t first = static_cast<std::size_t>(i) * piece;
              HWY_DYNAMIC_DISPATCH(activate_range)
              (op, slopes.data(), operands.inputs[0], first, std::min(piece, count - first),
               operands.outputs[0]);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
