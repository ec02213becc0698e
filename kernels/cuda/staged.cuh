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

// The rows of a warp that takes one for each lane.
struct WarpRows {
  int warp, lane;      // in the block, in the warp
  std::int64_t first;  // none, if not below the number of rows
  int count;           // from `first` on, if there are any
};

__device__ inline WarpRows rows_of_warp(std::int64_t rows, int warps) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t first = (std::int64_t{blockIdx.x} * warps + warp) * kWarp;
  return {warp, lane, first, static_cast<int>(rows - first < kWarp ? rows - first : kWarp)};
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

template <class T>
__device__ inline void store_staged(const float* s_rows, int count, int lane, T* to) {
  constexpr int kWide = 16 / sizeof(T);
  const int vectors = reinterpret_cast<std::uintptr_t>(to) % 16 == 0 ? count / kWide : 0;
  for (int i = lane; i < vectors; i += kWarp) {
    float values[kWide];
#pragma unroll
    for (int k = 0; k < kWide; ++k) values[k] = s_rows[staged(i * kWide + k)];
    store_elements(values, to + i * kWide);
  }
  for (int i = vectors * kWide + lane; i < count; i += kWarp)
    to[i] = from_float<T>(s_rows[staged(i)]);
}

}  // namespace tessera
