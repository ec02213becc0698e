// Class ids:  y = the first k with x_k = max x; with one channel, x > 0.5.
//
// Layout: x (rows, c), y (rows) u8. A warp brings 32 short rows into shared memory in whole
// sectors, where each lane compares one row; the lanes of a warp share a longer row, and their
// candidates meet by shuffles.
// Roofline: memory, x's bytes; one comparison an element. Share of it: not measured yet.
// Oracle: reference.cpp. A NaN is never the largest.
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/ops/argmax/cuda.h"

namespace tessera {

namespace {

constexpr int kWarps = 4;

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    argmax_lane_per_row_kernel(const T* __restrict__ x, std::uint8_t* __restrict__ y,
                               std::int64_t rows, int c) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const auto [warp, lane, first, count] = rows_of_warp(rows, kWarps);
  float* s_rows = s_all + warp * staged_size(kWarp * c);
  if (first >= rows) return;
  load_staged(x + first * c, count * c, lane, s_rows);
  __syncwarp();  // the loads above before the reads of other lanes' elements below
  if (lane >= count) return;
  Best best{s_rows[staged(lane * c)], 0};
  if (c == 1) best.index = best.value > 0.5f ? 1 : 0;
  for (int k = 1; k < c; ++k) {
    const float value = s_rows[staged(lane * c + k)];
    if (exceeds(value, best.value)) best = {value, k};
  }
  y[first + lane] = static_cast<std::uint8_t>(best.index);
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    argmax_warp_per_row_kernel(const T* __restrict__ x, std::uint8_t* __restrict__ y,
                               std::int64_t rows, int c) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp;
  if (row >= rows) return;
  const T* from = x + row * c;
  Best best{to_float(from[lane]), lane};
  for (int k = lane + kWarp; k < c; k += kWarp) {
    const float value = to_float(from[k]);
    if (exceeds(value, best.value)) best = {value, k};
  }
  best = best_of_warp(best);
  if (lane == 0) y[row] = static_cast<std::uint8_t>(best.index);
}

}  // namespace

void argmax_cuda(const ArgmaxArgs& args, CudaStream stream) {
  const int c = static_cast<int>(args.c);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto* kernel, std::int64_t rows_per_block, int floats) {
      const std::int64_t blocks = (args.rows + rows_per_block - 1) / rows_per_block;
      simt::launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * kWarp),
                   static_cast<std::size_t>(floats) * sizeof(float), stream,
                   static_cast<const T*>(args.x), args.y, args.rows, c);
    };
    if (c <= kArgmaxMostPerLane) {
      launch(argmax_lane_per_row_kernel<T>, kWarps * kWarp, kWarps * staged_size(kWarp * c));
    } else {
      launch(argmax_warp_per_row_kernel<T>, kWarps, 0);
    }
  });
}

}  // namespace tessera
