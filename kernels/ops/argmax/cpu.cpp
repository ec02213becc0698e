// Class ids:  y = the first k with x_k = max x; with one channel, x > 0.5.
//
// A block of pixels is transposed so that lanes are pixels (kernels/cpu/classes-inl.h); each class
// is then one comparison and two selections.
// Roofline: memory; one comparison per element moved.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/argmax/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/classes-inl.h"
#include "kernels/cpu/paths.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

constexpr std::size_t kMaxClasses = 256;

template <class T>
void argmax_typed(const T* x, std::size_t pixels, std::size_t c, std::uint8_t* mask) {
  HWY_ALIGN float planes[2 * kMaxClasses * kFloatLanes];
  for (std::size_t first = 0; first < pixels; first += kFloatLanes) {
    const std::size_t count = std::min(kFloatLanes, pixels - first);
    to_planes(x + first * c, count, c, planes);
    argmax_planes(planes, count, c, mask + first);
  }
}

// Pixels [first, first + pixels).
void argmax_range(const TensorView& x, std::size_t first, std::size_t pixels, const TensorView& y) {
  const auto c = static_cast<std::size_t>(x.shape()[-1]);
  std::uint8_t* mask = y.as<std::uint8_t>() + first;
  if (x.type.dtype == DType::kBF16) {
    argmax_typed(x.as<hwy::bfloat16_t>() + first * c, pixels, c, mask);
  } else {
    argmax_typed(x.as<float>() + first * c, pixels, c, mask);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/argmax/argmax.h"

namespace tessera {

HWY_EXPORT(argmax_range);

Step cpu(const Argmax& op, const CpuSetup& setup) {
  const auto pixels = static_cast<std::size_t>(infer(op, setup.inputs)[0].shape.elements());
  return {0, [pixels, threads = setup.threads](const Operands& operands, std::byte*) {
            constexpr std::size_t kPiece = 1024;  // pixels of one task
            const auto pieces = static_cast<std::int64_t>((pixels + kPiece - 1) / kPiece);
            parallel_for(threads, pieces, [&](std::int64_t i) {
              const std::size_t first = static_cast<std::size_t>(i) * kPiece;
              HWY_DYNAMIC_DISPATCH(argmax_range)
              (operands.inputs[0], first, std::min(kPiece, pixels - first), operands.outputs[0]);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
