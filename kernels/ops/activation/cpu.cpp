// Element-wise activation:  ReLU max(x, 0), or the sigmoid 1 / (1 + e^-x). NaN stays NaN.
//
// One flat loop over all elements, cut into pieces that threads share. The sigmoid is within 4 ULP
// (kernels/cpu/vector-inl.h).
// Roofline: memory; 1 (ReLU) or about 20 (sigmoid) operations for every 2 elements moved.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/activation/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/activation/activation.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

template <class T>
void activate_typed(Activation::Kind kind, const T* x, std::size_t count, T* y) {
  switch (kind) {
    case Activation::Kind::kRelu:
      return map(x, count, y, [](std::size_t, FloatVector v) HWY_ATTR { return relu(v); });
    case Activation::Kind::kSigmoid:
      return map(x, count, y, [](std::size_t, FloatVector v) HWY_ATTR { return sigmoid(v); });
  }
}

// Elements [first, first + count).
void activate_range(Activation::Kind kind, const TensorView& x, std::size_t first,
                    std::size_t count, const TensorView& y) {
  if (x.type.dtype == DType::kBF16) {
    activate_typed(kind, x.as<hwy::bfloat16_t>() + first, count, y.as<hwy::bfloat16_t>() + first);
  } else {
    activate_typed(kind, x.as<float>() + first, count, y.as<float>() + first);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(activate_range);

Step cpu(const Activation& op, const CpuSetup& setup) {
  const auto count = static_cast<std::size_t>(infer(op, setup.inputs)[0].shape.elements());
  return {
      0, [count, kind = op.kind, threads = setup.threads](const Operands& operands, std::byte*) {
        constexpr std::size_t kPiece = 1u << 14;  // elements; stays in L2
        const auto pieces = static_cast<std::int64_t>((count + kPiece - 1) / kPiece);
        parallel_for(threads, pieces, [&](std::int64_t piece) {
          const std::size_t first = static_cast<std::size_t>(piece) * kPiece;
          HWY_DYNAMIC_DISPATCH(activate_range)
          (kind, operands.inputs[0], first, std::min(kPiece, count - first), operands.outputs[0]);
        });
      }};
}

}  // namespace tessera
#endif  // HWY_ONCE
