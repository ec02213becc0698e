// Elements whose type a kernel is told at run time: one instance serves all float types where
// memory binds and not the switch, which is the same for all threads.
#pragma once

#include "kernels/cuda/element.cuh"

namespace tessera {

constexpr int kQuad = 4;  // neighbouring elements, the most of f32 that one instruction moves

// `kCount` elements, 1 or a quad, from element `index` on, which is a multiple of kCount.
template <int kCount>
__device__ inline void load_typed(const void* x, std::int64_t index, DType type,
                                  float (&to)[kCount]) {
  switch (type) {
    case DType::kBF16:
      return load_elements(static_cast<const BF16*>(x) + index, to);
    case DType::kF16:
      return load_elements(static_cast<const F16*>(x) + index, to);
    default:
      return load_elements(static_cast<const float*>(x) + index, to);
  }
}

template <int kCount>
__device__ inline void store_typed(const float (&from)[kCount], void* y, std::int64_t index,
                                   DType type) {
  switch (type) {
    case DType::kBF16:
      return store_elements(from, static_cast<BF16*>(y) + index);
    case DType::kF16:
      return store_elements(from, static_cast<F16*>(y) + index);
    default:
      return store_elements(from, static_cast<float*>(y) + index);
  }
}

// Calls launch(std::integral_constant<int, kCount>()): quads where `c` channels are whole ones,
// else single elements. Host code.
template <class Launch>
void with_quads(std::int64_t c, const Launch& launch) {
  if (c % kQuad == 0) {
    launch(std::integral_constant<int, kQuad>());
  } else {
    launch(std::integral_constant<int, 1>());
  }
}

}  // namespace tessera
