// Neighbouring rows of a few floats in a warp's part of shared memory: global memory is crossed in
// whole sectors although each lane works on a row of its own.
#pragma once

#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"

namespace tessera {

// Where element `i` lies: one word in 33 stays free, so that rows of an even length start in
// different banks.
__host__ __device__ constexpr int staged(int i) {
  return i + i / 32;
}

// Floats that `count` elements take, rounded up to 16 bytes.
__host__ __device__ constexpr int staged_size(int count) {
  return (staged(count) + 3) / 4 * 4;
}

// `count` elements from `from` on, by the whole warp.
template <class T>
__device__ inline void load_staged(const T* from, int count, int lane, float* s_rows) {
  constexpr int kWide = 16 / sizeof(T);
  const int vectors = reinterpret_cast<std::uintptr_t>(from) % 16 == 0 ? count / kWide : 0;
  for (int i = lane; i < vectors; i += kWarp) {
    float values[kWide];
    load_elements(from + i * kWide, values);
#pragma unroll
    for (int k = 0; k < kWide; ++k) s_rows[staged(i * kWide + k)] = values[k];
  }
  for (int i = vectors * kWide + lane; i < count; i += kWarp) s_rows[staged(i)] = to_float(from[i]);
}

__device__ inline void store_staged(const float* s_rows, int count, int lane, float* to) {
  constexpr int kWide = 4;
  const int vectors = reinterpret_cast<std::uintptr_t>(to) % 16 == 0 ? count / kWide : 0;
  for (int i = lane; i < vectors; i += kWarp) {
    float values[kWide];
#pragma unroll
    for (int k = 0; k < kWide; ++k) values[k] = s_rows[staged(i * kWide + k)];
    store_elements(values, to + i * kWide);
  }
  for (int i = vectors * kWide + lane; i < count; i += kWarp) to[i] = s_rows[staged(i)];
}

}  // namespace tessera
