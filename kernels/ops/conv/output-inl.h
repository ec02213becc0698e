// How the image operators write their results.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// A map that outgrows the caches is written around them: an ordinary store would first read the
// line that it replaces. Measured on Zen 4 with 64 channels at 568x568: the output phase of
// Winograd takes 8 ms instead of 16. A smaller map is better kept, as the next operator reads it at
// once.
#if defined(TESSERA_KERNELS_CONV_OUTPUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CONV_OUTPUT_INL_H_
#undef TESSERA_KERNELS_CONV_OUTPUT_INL_H_
#else
#define TESSERA_KERNELS_CONV_OUTPUT_INL_H_
#endif

#include <hwy/cache_control.h>

#include "kernels/cpu/vector-inl.h"
#include "kernels/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// Writes vectors of channels to the pixels of `y` (..., c), f32 or bf16.
class OutputWriter {
 public:
  explicit OutputWriter(const TensorView& y)
      : channels_(static_cast<std::size_t>(y.shape()[-1])),
        around_(y.type.dtype == DType::kF32 && y.type.bytes() >= kLargeBytes &&
                channels_ % kFloatLanes == 0 &&
                reinterpret_cast<std::uintptr_t>(y.pointer) % sizeof(FloatVector) == 0) {}

  // Channels [c, c + lanes) of the pixel whose channel 0 is at `pixel`; those past the last are
  // left out.
  HWY_INLINE void write(FloatVector v, float* pixel, std::size_t c) const {
    if (around_) {
      hn::Stream(v, FloatTag(), pixel + c);
    } else {
      write_cached(v, pixel, c);
    }
  }
  HWY_INLINE void write(FloatVector v, hwy::bfloat16_t* pixel, std::size_t c) const {
    write_cached(v, pixel, c);
  }

  // To be called at the end of a task: other threads see what was written around the caches.
  void finish() const {
    if (around_) hwy::FlushStream();
  }

 private:
  static constexpr std::size_t kLargeBytes = 16 << 20;  // half of a common last-level cache

  template <class T>
  HWY_INLINE void write_cached(FloatVector v, T* pixel, std::size_t c) const {
    if (channels_ - c >= kFloatLanes) {
      store(v, pixel + c);
    } else {
      store_first(v, pixel + c, channels_ - c);
    }
  }

  std::size_t channels_;
  bool around_;
};

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
