// Elements of activations: f32, bf16 and f16 in memory, f32 in registers.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/tensor.h"

namespace tessera {

using BF16 = __nv_bfloat16;
using F16 = __half;

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(BF16 x) {
  return __bfloat162float(x);
}
__device__ inline float to_float(F16 x) {
  return __half2float(x);
}

// Rounds to nearest even; an f16 past 65504 becomes infinity.
template <class T>
__device__ inline T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else if constexpr (std::is_same_v<T, BF16>) {
    return __float2bfloat16_rn(x);
  } else {
    return __float2half_rn(x);
  }
}

// `kCount` neighbouring elements, read and written by one instruction of up to 16 bytes. The
// address must be a multiple of their size.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Elements {
  static_assert(sizeof(T) * kCount <= 16);
  T at[kCount];
};

template <int kCount, class T>
__device__ inline void load_elements(const T* from, float (&to)[kCount]) {
  const auto loaded = *reinterpret_cast<const Elements<T, kCount>*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = to_float(loaded.at[i]);
}

template <int kCount, class T>
__device__ inline void store_elements(const float (&from)[kCount], T* to) {
  Elements<T, kCount> stored;
#pragma unroll
  for (int i = 0; i < kCount; ++i) stored.at[i] = from_float<T>(from[i]);
  *reinterpret_cast<Elements<T, kCount>*>(to) = stored;
}

// Calls body(T()) with the element type that `dtype` names; host code.
template <class Body>
void with_element(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kBF16:
      return body(BF16());
    case DType::kF16:
      return body(F16());
    default:
      return body(float());
  }
}

}  // namespace tessera
