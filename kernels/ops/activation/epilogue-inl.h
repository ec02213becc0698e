// An epilogue on sums in memory.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
#if defined(TESSERA_KERNELS_ACTIVATION_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_ACTIVATION_EPILOGUE_INL_H_
#undef TESSERA_KERNELS_ACTIVATION_EPILOGUE_INL_H_
#else
#define TESSERA_KERNELS_ACTIVATION_EPILOGUE_INL_H_
#endif

#include "kernels/ops/activation/epilogue.h"
#include "kernels/ops/activation/vectors-inl.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// Adds channels [c, c + lanes) of a residual's `pixel`, which has `channels`.
template <class T>
HWY_INLINE FloatVector add_residual(FloatVector v, const T* pixel, std::size_t c,
                                    std::size_t channels) {
  const std::size_t rest = channels - c;
  return hn::Add(v, rest >= kFloatLanes ? load(pixel + c) : load_first(pixel + c, rest));
}

// `count` vectors, `stride` floats apart, of channels with the slopes `slopes`.
inline void activate_sums(const Activation& op, const float* slopes, float* sums, std::size_t count,
                          std::size_t stride) {
  with_activation(op, [=](const auto& function) HWY_ATTR {
    for (std::size_t i = 0; i < count; ++i) {
      float* sum = sums + i * stride;
      store(function(slopes, load(sum)), sum);
    }
  });
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
