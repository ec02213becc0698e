// The rows of the left operand that a block of a matrix product takes.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/ops/linear/cuda.h"

namespace tessera {

// Row of x that is the operand of row `row` of y, or -1 if that row takes no part.
__device__ inline std::int64_t source_row(const GemmArgs& args, std::int64_t row) {
  const RowMap& map = args.map;
  if (row >= args.rows) return -1;
  if (map.lengths != nullptr && row % map.t >= map.lengths[row / map.t]) return -1;
  if (map.ids == nullptr) return row;
  const std::int64_t id = map.ids[row];
  return id < 0 ? 0 : id >= map.x_rows ? map.x_rows - 1 : id;
}

// Writes the sources of the block's kRows rows and says whether any takes part. Ends with a
// barrier.
template <int kRows>
__device__ inline bool find_sources(const GemmArgs& args, std::int64_t first_row,
                                    std::int64_t (&source)[kRows]) {
  bool any = false;
  for (int i = static_cast<int>(threadIdx.x); i < kRows; i += static_cast<int>(blockDim.x)) {
    source[i] = source_row(args, first_row + i);
    any = any || source[i] >= 0;
  }
  // Puts the writes of `source` before all reads of it.
  return __syncthreads_or(any) != 0;
}

// Four neighbouring features of a row of x: zeros past its end and where the row takes no part.
// `whole`: x and its rows are aligned to 16 bytes.
__device__ inline float4 load_features(const GemmArgs& args, std::int64_t source, int k,
                                       bool whole) {
  float4 four = make_float4(0, 0, 0, 0);
  if (source < 0 || k >= args.features) return four;
  const float* from = args.x + source * args.features + k;
  if (whole) return *reinterpret_cast<const float4*>(from);
  four.x = from[0];
  if (k + 1 < args.features) four.y = from[1];
  if (k + 2 < args.features) four.z = from[2];
  if (k + 3 < args.features) four.w = from[3];
  return four;
}

__device__ inline bool rows_are_aligned(const GemmArgs& args) {
  return args.features % 4 == 0 && reinterpret_cast<std::uintptr_t>(args.x) % 16 == 0;
}

}  // namespace tessera
