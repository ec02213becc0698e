// What the kernels of BatchNorm in training, forward and backward, share.
//
// Layout: maps (rows, c). Three kernels each way: the first cuts the rows into slices and reduces
// each to two numbers a channel, the second joins those in double, a warp for each channel, and the
// third maps every element. A thread keeps to 16 bytes of channels, whose coefficients stay in its
// registers, and has four rows under way; a block's threads lie side by side over channels, then
// rows, so warps cross whole sectors for any c. All sums have an order that depends on the extents
// alone.
#pragma once

#include <type_traits>

#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/ops/batch_norm/train/cuda.h"

namespace tessera {

constexpr int kFinishWarps = 4;  // channels that a block of the second kernel makes

// ---- What a thread works on

struct Share {
  bool active;           // has it any channels?
  int lane;              // of the block's
  int rows;              // that it takes
  std::int64_t slice;    // its block's
  std::int64_t channel;  // the first of its group
  std::int64_t first;    // element (first row, channel)
  std::int64_t step;     // elements from one of its rows to the next
};

__device__ inline int rows_of_slice(const BatchNormTiling& tiling, std::int64_t slice) {
  const std::int64_t left = tiling.rows - slice * tiling.extent;
  return left < tiling.extent ? static_cast<int>(left) : tiling.extent;
}

template <int kCount>
__device__ inline Share share_of(const BatchNormTiling& tiling, unsigned block) {
  const auto tiles = static_cast<unsigned>(tiling.tiles);
  const std::int64_t slice = block / tiles, tile = block % tiles;
  const int lane = static_cast<int>(threadIdx.x) / tiling.groups;
  const std::int64_t group =
      tile * tiling.groups + (static_cast<int>(threadIdx.x) - lane * tiling.groups);
  const std::int64_t channel = group * kCount;
  const int rows = rows_of_slice(tiling, slice);
  return {lane < tiling.lanes && channel < tiling.c,
          lane,
          lane < rows ? (rows - lane + tiling.lanes - 1) / tiling.lanes : 0,
          slice,
          channel,
          (slice * tiling.extent + lane) * tiling.c + channel,
          tiling.lanes * tiling.c};
}

template <int kCount>
__device__ inline void load_channels(const float* from, std::int64_t channel, float (&to)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) to[k] = from[channel + k];
}

// A thread's elements of some rows of one map, from `from` on.
template <int kRowCount, int kCount>
struct MapRows {
  static constexpr int kRows = kRowCount;
  float at[kRows][kCount];

  template <class T>
  __device__ MapRows(const T* from, std::int64_t step) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) load_elements(from + row * step, at[row]);
  }
};

// body(element, rows...) for the thread's rows: those of every map, kBatchNormUnroll of them or
// one, from that element on.
template <int kCount, class Body, class... T>
__device__ inline void for_each_row(const Share& share, const Body& body, const T*... maps) {
  std::int64_t element = share.first;
  int left = share.rows;
  for (; left >= kBatchNormUnroll; left -= kBatchNormUnroll) {
    body(element, MapRows<kBatchNormUnroll, kCount>(maps + element, share.step)...);
    element += kBatchNormUnroll * share.step;
  }
  for (; left > 0; --left) {
    body(element, MapRows<1, kCount>(maps + element, share.step)...);
    element += share.step;
  }
}

// ---- The first kernel: sums over a block's rows

// Two numbers a channel that several rows have been reduced to. Where they are sums, `rows` is of
// no use.
template <int kCount>
struct Partial {
  float rows;
  float first[kCount], second[kCount];
};

// Joins the results of all lanes, halving their number, and stores lane 0's as the slice's. Every
// thread of the block calls it.
template <int kCount, class Join>
__device__ inline void store_slice(const BatchNormTiling& tiling, const Share& share,
                                   Partial<kCount>& mine, const Join& join, float* partial) {
  SIMT_SHARED(float, s_first, [kCount * kBatchNormThreads]);
  SIMT_SHARED(float, s_second, [kCount * kBatchNormThreads]);
  SIMT_SHARED(float, s_rows, [kBatchNormThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  for (int live = tiling.lanes; live > 1;) {
    const int half = (live + 1) / 2;
    if (share.active && share.lane >= half && share.lane < live) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        s_first[k * kBatchNormThreads + thread] = mine.first[k];
        s_second[k * kBatchNormThreads + thread] = mine.second[k];
      }
      s_rows[thread] = mine.rows;
    }
    // The upper lanes' stores above before the lower ones' loads below. No lane stores twice, so
    // that the next round cannot overwrite what this one reads.
    __syncthreads();
    if (share.active && share.lane + half < live) {
      const int from = thread + half * tiling.groups;
      Partial<kCount> other;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        other.first[k] = s_first[k * kBatchNormThreads + from];
        other.second[k] = s_second[k * kBatchNormThreads + from];
      }
      other.rows = s_rows[from];
      join(mine, other);
    }
    live = half;
  }
  if (!share.active || share.lane != 0) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    float* to = partial + (share.channel + k) * tiling.slices + share.slice;
    to[0] = mine.first[k];
    to[tiling.c * tiling.slices] = mine.second[k];
  }
}

// ---- The second kernel

// In one fixed order, the same in every lane.
__device__ inline double sum_of_warp_in_double(double value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

__device__ inline std::int64_t channel_of_warp(std::int64_t c) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * kFinishWarps + threadIdx.x / kWarp;
  return channel < c ? channel : c;
}

// What a warp of the second kernel joins: two numbers of each slice of its channel.
struct Slices {
  std::int64_t channel, lane;   // channel: c where the warp has none
  const float *first, *second;  // (slices)

  __device__ Slices(const BatchNormTiling& tiling, const float* partial)
      : channel(channel_of_warp(tiling.c)),
        lane(threadIdx.x % kWarp),
        first(partial + channel * tiling.slices),
        second(first + tiling.c * tiling.slices) {}
};

// ---- The third kernel

// What the first kernel read last may still be in L2.
__device__ inline unsigned block_from_behind() {
  return gridDim.x - 1 - blockIdx.x;
}

// ---- Launches

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls body(T(), Constant<width>()): the type of the elements and the channels of a group.
template <class Body>
void with_group(DType dtype, int width, const Body& body) {
  with_element(dtype, [&](auto element) {
    constexpr int kWide = 16 / sizeof(element);
    if (width == kWide) {
      body(element, Constant<kWide>());
    } else {
      body(element, Constant<1>());
    }
  });
}

inline dim3 grid_of(const BatchNormTiling& tiling) {
  return dim3(static_cast<unsigned>(tiling.tiles * tiling.slices));
}
inline dim3 finish_grid_of(const BatchNormTiling& tiling) {
  return dim3(static_cast<unsigned>((tiling.c + kFinishWarps - 1) / kFinishWarps));
}

}  // namespace tessera
