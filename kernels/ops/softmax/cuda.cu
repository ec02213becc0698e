// Softmax over the last axis:  y_k = exp(x_k - max x) / sum_j exp(x_j - max x).
//
// Layout: x (rows, c), y (rows, c) f32. A warp brings 32 short rows, or one longer row, into shared
// memory, where each lane makes one row, or all lanes the one; so memory is crossed once, in whole
// sectors. A row too long for that is made by a block, which reads it three times, out of L2. The
// order of a row's sum depends on c alone.
// Roofline: memory, size of x's type + 4 bytes an element; about 20 operations each. Share of it:
// not measured yet.
// Oracle: reference.cpp. NaN, +inf and a row of nothing but -inf give NaN in the whole row.
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/ops/softmax/cuda.h"

namespace tessera {

namespace {

constexpr int kWarps = 4;
constexpr int kBlockThreads = 512;  // of a block that makes a row
constexpr int kBlockWarps = kBlockThreads / kWarp;

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    softmax_lane_per_row_kernel(const T* __restrict__ x, float* __restrict__ y, std::int64_t rows,
                                int c) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const auto [warp, lane, first, count] = rows_of_warp(rows, kWarps);
  float* s_rows = s_all + warp * staged_size(kWarp * c);
  if (first >= rows) return;
  load_staged(x + first * c, count * c, lane, s_rows);
  __syncwarp();  // the loads above before the reads of other lanes' elements below
  if (lane < count) {
    const int begin = lane * c;
    float largest = -INFINITY, sum = 0;
    for (int k = 0; k < c; ++k) largest = fmaxf(largest, s_rows[staged(begin + k)]);
    for (int k = 0; k < c; ++k) {
      const float power = expf(s_rows[staged(begin + k)] - largest);
      s_rows[staged(begin + k)] = power;
      sum += power;
    }
    const float scale = reciprocal(sum);
    for (int k = 0; k < c; ++k) s_rows[staged(begin + k)] *= scale;
  }
  __syncwarp();  // the quotients above before other lanes store them below
  store_staged(s_rows, count * c, lane, y + first * c);
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    softmax_warp_per_row_kernel(const T* __restrict__ x, float* __restrict__ y, std::int64_t rows,
                                int c) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  float* s_row = s_all + warp * staged_size(c);
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp;
  if (row >= rows) return;
  load_staged(x + row * c, c, lane, s_row);
  __syncwarp();  // the loads above before the reads of other lanes' elements below
  float largest = -INFINITY, sum = 0;
  for (int k = lane; k < c; k += kWarp) largest = fmaxf(largest, s_row[staged(k)]);
  largest = max_of_warp(largest);
  for (int k = lane; k < c; k += kWarp) {
    const float power = expf(s_row[staged(k)] - largest);
    s_row[staged(k)] = power;
    sum += power;
  }
  const float scale = reciprocal(sum_of_warp(sum));
  for (int k = lane; k < c; k += kWarp) y[row * c + k] = s_row[staged(k)] * scale;
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    softmax_block_per_row_kernel(const T* __restrict__ x, float* __restrict__ y, int c) {
  SIMT_SHARED(float, s_largest, [kBlockWarps]);
  SIMT_SHARED(float, s_sum, [kBlockWarps]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const T* from = x + std::int64_t{blockIdx.x} * c;
  float* to = y + std::int64_t{blockIdx.x} * c;

  float largest = -INFINITY;
  for (int k = thread; k < c; k += kBlockThreads) largest = fmaxf(largest, to_float(from[k]));
  largest = max_of_warp(largest);
  if (lane == 0) s_largest[warp] = largest;
  __syncthreads();  // every warp's largest before all read it
  for (int other = 0; other < kBlockWarps; ++other) largest = fmaxf(largest, s_largest[other]);

  float sum = 0;
  for (int k = thread; k < c; k += kBlockThreads) sum += expf(to_float(from[k]) - largest);
  sum = sum_of_warp(sum);
  if (lane == 0) s_sum[warp] = sum;
  __syncthreads();  // every warp's sum before all read it
  sum = 0;
  for (int other = 0; other < kBlockWarps; ++other) sum += s_sum[other];

  const float scale = reciprocal(sum);
  for (int k = thread; k < c; k += kBlockThreads) to[k] = expf(to_float(from[k]) - largest) * scale;
}

}  // namespace

void softmax_cuda(const SoftmaxArgs& args, CudaStream stream) {
  const int c = static_cast<int>(args.c);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = static_cast<const T*>(args.x);
    const auto blocks = [&](std::int64_t rows_per_block) {
      return dim3(static_cast<unsigned>((args.rows + rows_per_block - 1) / rows_per_block));
    };
    const auto bytes = [](int floats) { return static_cast<std::size_t>(floats) * sizeof(float); };
    if (c <= kSoftmaxMostPerLane) {
      simt::launch(softmax_lane_per_row_kernel<T>, blocks(kWarps * kWarp), dim3(kWarps * kWarp),
                   bytes(kWarps * staged_size(kWarp * c)), stream, x, args.y, args.rows, c);
    } else if (c <= kSoftmaxMostPerWarp) {
      simt::launch(softmax_warp_per_row_kernel<T>, blocks(kWarps), dim3(kWarps * kWarp),
                   bytes(kWarps * staged_size(c)), stream, x, args.y, args.rows, c);
    } else {
      simt::launch(softmax_block_per_row_kernel<T>, blocks(1), dim3(kBlockThreads), 0, stream, x,
                   args.y, c);
    }
  });
}

}  // namespace tessera
