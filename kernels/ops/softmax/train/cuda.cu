// Backward of softmax over the last axis:  dx_k = y_k (dy_k - sum_j dy_j y_j).
//
// Layout: y and dy (rows, c) f32, dx (rows, c). Techniques and their limits are those of cuda.cu: a
// warp brings 32 short rows into shared memory, where each lane makes one; or it makes one longer
// row, or a block does, which read it twice, the second time out of L1 or L2. The order of a row's
// sum depends on c alone.
// Roofline: memory, 8 bytes + size of dx's type an element; 4 operations each. Share of it: not
// measured yet.
// Oracle: train/reference.cpp.
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/ops/softmax/cuda.h"
#include "kernels/ops/softmax/train/cuda.h"

namespace tessera {

namespace {

constexpr int kWarps = 4;
constexpr int kBlockThreads = 512;  // of a block that makes a row
constexpr int kBlockWarps = kBlockThreads / kWarp;

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    softmax_backward_lane_per_row_kernel(const float* __restrict__ y, const float* __restrict__ dy,
                                         T* __restrict__ dx, std::int64_t rows, int c) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const auto [warp, lane, first, count] = rows_of_warp(rows, kWarps);
  const int size = staged_size(kWarp * c);
  float *s_y = s_all + 2 * warp * size, *s_dy = s_y + size;
  if (first >= rows) return;
  load_staged(y + first * c, count * c, lane, s_y);
  load_staged(dy + first * c, count * c, lane, s_dy);
  __syncwarp();  // the loads above before the reads of other lanes' elements below
  if (lane < count) {
    const int begin = lane * c;
    float sum = 0;
    for (int k = begin; k < begin + c; ++k) sum = fmaf(s_dy[staged(k)], s_y[staged(k)], sum);
    for (int k = begin; k < begin + c; ++k) s_y[staged(k)] *= s_dy[staged(k)] - sum;
  }
  __syncwarp();  // the products above before other lanes store them below
  store_staged(s_y, count * c, lane, dx + first * c);
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    softmax_backward_warp_per_row_kernel(const float* __restrict__ y, const float* __restrict__ dy,
                                         T* __restrict__ dx, std::int64_t rows, int c) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp;
  if (row >= rows) return;
  const float *y_row = y + row * c, *dy_row = dy + row * c;
  float sum = 0;
#pragma unroll 4
  for (int k = lane; k < c; k += kWarp) sum = fmaf(dy_row[k], y_row[k], sum);
  sum = sum_of_warp(sum);
#pragma unroll 4
  for (int k = lane; k < c; k += kWarp)
    dx[row * c + k] = from_float<T>(y_row[k] * (dy_row[k] - sum));
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    softmax_backward_block_per_row_kernel(const float* __restrict__ y, const float* __restrict__ dy,
                                          T* __restrict__ dx, int c) {
  SIMT_SHARED(float, s_sum, [kBlockWarps]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const std::int64_t first = std::int64_t{blockIdx.x} * c;
  float sum = 0;
#pragma unroll 4
  for (int k = thread; k < c; k += kBlockThreads) sum = fmaf(dy[first + k], y[first + k], sum);
  sum = sum_of_warp(sum);
  if (lane == 0) s_sum[warp] = sum;
  __syncthreads();  // every warp's sum before all read it
  sum = 0;
  for (int other = 0; other < kBlockWarps; ++other) sum += s_sum[other];
#pragma unroll 4
  for (int k = thread; k < c; k += kBlockThreads)
    dx[first + k] = from_float<T>(y[first + k] * (dy[first + k] - sum));
}

}  // namespace

void softmax_backward_cuda(const SoftmaxBackwardArgs& args, CudaStream stream) {
  const int c = static_cast<int>(args.c);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    T* dx = static_cast<T*>(args.dx);
    const auto blocks = [&](std::int64_t rows_per_block) {
      return dim3(static_cast<unsigned>((args.rows + rows_per_block - 1) / rows_per_block));
    };
    if (c <= kSoftmaxMostPerLane) {
      const std::size_t bytes =
          sizeof(float) * static_cast<std::size_t>(2 * kWarps * staged_size(kWarp * c));
      simt::launch(softmax_backward_lane_per_row_kernel<T>, blocks(kWarps * kWarp),
                   dim3(kWarps * kWarp), bytes, stream, args.y, args.dy, dx, args.rows, c);
    } else if (c <= kSoftmaxMostPerWarp) {
      simt::launch(softmax_backward_warp_per_row_kernel<T>, blocks(kWarps), dim3(kWarps * kWarp), 0,
                   stream, args.y, args.dy, dx, args.rows, c);
    } else {
      simt::launch(softmax_backward_block_per_row_kernel<T>, blocks(1), dim3(kBlockThreads), 0,
                   stream, args.y, args.dy, dx, c);
    }
  });
}

}  // namespace tessera
