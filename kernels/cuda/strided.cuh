// How a thread finds its elements on a walk over strided tensors (strided.h), and the grid of such
// a kernel.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/strided.h"

namespace tessera {

constexpr int kWalkThreads = 256;

// Blocks stride over `count` items.
inline dim3 walk_grid(std::int64_t count) {
  constexpr std::int64_t kMostBlocks = 1 << 16;
  const std::int64_t blocks = (count + kWalkThreads - 1) / kWalkThreads;
  return dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
}

// body(i) for each item that this thread of a walk_grid makes; neighbours make neighbouring ones.
template <class Body>
__device__ inline void for_each_item(std::int64_t count, const Body& body) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kWalkThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWalkThreads + threadIdx.x; i < count;
       i += stride)
    body(i);
}

// Divides `value` by `by` and returns the remainder; in 32 bits, a fifth of the time, where both
// fit.
__device__ inline std::int64_t divide(std::int64_t& value, std::int64_t by) {
  if (((value | by) >> 32) == 0) {
    const auto narrow = static_cast<std::uint32_t>(value), divisor = static_cast<std::uint32_t>(by);
    const std::uint32_t quotient = narrow / divisor;
    value = quotient;
    return narrow - quotient * divisor;
  }
  const std::int64_t quotient = value / by, rest = value - quotient * by;
  value = quotient;
  return rest;
}

// The offsets of element `i` of the walk in each tensor. `unit` elements of the last axis are one
// item: i counts items.
template <int kTensors>
__device__ inline void offsets_of(const StridedWalk<kTensors>& walk, std::int64_t i, int unit,
                                  std::int64_t (&offsets)[kTensors]) {
#pragma unroll
  for (int k = 0; k < kTensors; ++k) offsets[k] = 0;
  for (int axis = walk.rank - 1; axis >= 0; --axis) {
    const bool last = axis == walk.rank - 1;
    const std::int64_t extent = last ? walk.extents[axis] / unit : walk.extents[axis];
    const std::int64_t at = axis == 0 ? i : divide(i, extent);
#pragma unroll
    for (int k = 0; k < kTensors; ++k) offsets[k] += at * walk.strides[k][axis] * (last ? unit : 1);
  }
}

}  // namespace tessera
