// Softmax over the last axis:  y_k = exp(x_k - max x) / sum_j exp(x_j - max x).
//
// A block of pixels is transposed so that lanes are pixels (kernels/cpu/classes-inl.h), then each
// class is one vector of maximum, exponential, sum and quotient. The exponential is within 2 ULP,
// the result within (4 + 2c) 2^-24 (its derivation stands beside the test).
// Roofline: memory for maps that leave the cache; with 2 classes about 40 operations per pixel of
// 16 bytes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/softmax/cpu.cpp"
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

template <class T>
void softmax_typed(const T* x, std::size_t pixels, std::size_t c, float* planes, float* y) {
  for (std::size_t first = 0; first < pixels; first += kFloatLanes) {
    const std::size_t count = std::min(kFloatLanes, pixels - first);
    to_planes(x + first * c, count, c, planes);
    softmax_planes(c, planes);
    from_planes(planes, count, c, y + first * c);
  }
}

// Pixels [first, first + pixels); `planes` is scratch for (2 c, lanes) floats.
void softmax_range(const TensorView& x, std::size_t first, std::size_t pixels, float* planes,
                   const TensorView& y) {
  const auto c = static_cast<std::size_t>(x.shape()[-1]);
  float* out = y.as<float>() + first * c;
  if (x.type.dtype == DType::kBF16) {
    softmax_typed(x.as<hwy::bfloat16_t>() + first * c, pixels, c, planes, out);
  } else {
    softmax_typed(x.as<float>() + first * c, pixels, c, planes, out);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/softmax/softmax.h"

namespace tessera {

HWY_EXPORT(softmax_range);

Step cpu(const Softmax& op, const CpuSetup& setup) {
  constexpr std::size_t kMaxLanes = 16;  // of any target
  constexpr std::size_t kPiece = 8192;   // elements of one task, about
  const Shape shape = infer(op, setup.inputs)[0].shape;
  const auto c = static_cast<std::size_t>(shape[-1]);
  const auto pixels = static_cast<std::size_t>(shape.elements()) / c;
  const std::size_t piece = kMaxLanes * std::max<std::size_t>(1, kPiece / kMaxLanes / c);
  const std::size_t thread_floats = 2 * c * kMaxLanes;
  const int threads = setup.threads;
  return {
      static_cast<std::size_t>(threads) * thread_floats * sizeof(float),
      [=](const Operands& operands, std::byte* scratch) {
        const auto pieces = static_cast<std::int64_t>((pixels + piece - 1) / piece);
        parallel_for(threads, pieces, [&](std::int64_t i, int slot) {
          const std::size_t first = static_cast<std::size_t>(i) * piece;
          float* planes =
              reinterpret_cast<float*>(scratch) + static_cast<std::size_t>(slot) * thread_floats;
          HWY_DYNAMIC_DISPATCH(softmax_range)
          (operands.inputs[0], first, std::min(piece, pixels - first), planes, operands.outputs[0]);
        });
      }};
}

}  // namespace tessera
#endif  // HWY_ONCE
