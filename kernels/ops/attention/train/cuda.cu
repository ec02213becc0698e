// Attention's backward run (formulas: backward.h), but for its matrix products, which are Linear's.
//
// Layouts: z (sequences, t, width), u (sequences, t, units), a (sequences, t), all f32.
// Scores: a block per sequence; a warp takes the product ds . z_t of a step, lanes along the width,
// then the block the softmax's gradient. Slopes: dp element by element; a block takes a slice of
// the steps and 32 vectors of units, its threads 8 steps at a time, and leaves the slice's sums of
// dp and of de u; a second kernel adds the slices in order. Pool: adds a_t ds to what the product
// of dp with W left, element by element. Roofline: memory; 4 bytes per element of z, 8 of u and dp,
// 8 of dz. Share of it: not measured yet. Oracle: train/reference.cpp.
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/ops/attention/train/cuda.h"

namespace tessera {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kScoreBlocks = 4;                 // per multiprocessor: at most 64 registers
constexpr int kWide = 4;                        // floats of 16 bytes
constexpr int kAcross = kWarp, kDown = kWarps;  // threads along units and along steps
constexpr std::int64_t kLeastSlice = 64;        // steps
constexpr std::int64_t kMostSlices = 1024;      // more would only lengthen the second sum
constexpr std::int64_t kMostBlocks = 65536;
constexpr int kSums = 2;  // of dp, and of de u

__device__ inline int length_of(const std::int32_t* lengths, std::int64_t sequence, int t) {
  return lengths != nullptr ? min(max(lengths[sequence], 0), t) : t;
}

template <int kCount>
__global__ void __launch_bounds__(kThreads, kScoreBlocks)
    attention_score_gradient_kernel(AttentionScoreGradientArgs args) {
  SIMT_SHARED(float, s_warps, [kWarps]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const std::int64_t sequence = blockIdx.x, first = sequence * args.t;
  const int length = length_of(args.lengths, sequence, args.t);
  const float* ds = args.ds + sequence * args.width;

  float mean = 0;  // this warp's share
  for (int step = warp; step < length; step += kWarps) {
    const float* z = args.z + (first + step) * args.width;
    float sum = 0;
#pragma unroll 4
    for (int i = lane * kCount; i < args.width; i += kWarp * kCount) {
      float left[kCount], right[kCount];
      load_elements(ds + i, left);
      load_elements(z + i, right);
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum = fmaf(left[k], right[k], sum);
    }
    sum = sum_of_warp(sum);
    if (args.da != nullptr) sum += args.da[first + step];
    mean = fmaf(args.a[first + step], sum, mean);
    if (lane == 0) args.de[first + step] = sum;
  }
  if (lane == 0) s_warps[warp] = mean;
  __syncthreads();  // the warps' shares, and the sums of all steps, before their reads
  mean = 0;
  for (int other = 0; other < kWarps; ++other) mean += s_warps[other];
  for (int step = thread; step < args.t; step += kThreads) {
    float* de = args.de + first + step;
    *de = step < length ? args.a[first + step] * (*de - mean) : 0.0f;
  }
}

std::int64_t slice_of(std::int64_t rows) {
  const std::int64_t even = (rows + kMostSlices - 1) / kMostSlices;
  return even > kLeastSlice ? even : kLeastSlice;
}

std::int64_t slices_of(std::int64_t rows) {
  const std::int64_t slice = slice_of(rows);
  return (rows + slice - 1) / slice;
}

// partial (slices, kSums, units)
template <int kCount>
__global__ void __launch_bounds__(kThreads)
    attention_slope_kernel(AttentionSlopeArgs args, std::int64_t slice, bool wants_sums) {
  SIMT_SHARED(float, s_sums, [kDown][kSums][kAcross * kCount]);
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % kAcross, down = thread / kAcross;
  const int first_unit = static_cast<int>(blockIdx.y) * kAcross * kCount;
  const int unit = first_unit + column * kCount;
  const std::int64_t begin = blockIdx.x * slice;
  const std::int64_t end = begin + slice < args.rows ? begin + slice : args.rows;
  float slopes[kCount] = {}, states[kCount] = {};
  if (unit < args.units) {
    float context[kCount];
    load_elements(args.context + unit, context);
#pragma unroll 4
    for (std::int64_t row = begin + down; row < end; row += kDown) {
      const float de = args.de[row];
      float u[kCount], dp[kCount];
      load_elements(args.u + row * args.units + unit, u);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        dp[k] = de * context[k] * fmaf(-u[k], u[k], 1.0f);
        slopes[k] += dp[k];
        states[k] = fmaf(de, u[k], states[k]);
      }
      store_elements(dp, args.dp + row * args.units + unit);
    }
  }
  if (!wants_sums) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    s_sums[down][0][column * kCount + k] = slopes[k];
    s_sums[down][1][column * kCount + k] = states[k];
  }
  __syncthreads();  // all threads' sums before their reads
  for (int i = thread; i < kSums * kAcross * kCount; i += kThreads) {
    const int which = i / (kAcross * kCount), at = i % (kAcross * kCount);
    if (first_unit + at >= args.units) continue;
    float sum = 0;
#pragma unroll
    for (int other = 0; other < kDown; ++other) sum += s_sums[other][which][at];
    args.partial[(std::int64_t{blockIdx.x} * kSums + which) * args.units + first_unit + at] = sum;
  }
}

// Adds the slices to the gradients: threads side by side over the units, below each other over the
// slices.
__global__ void __launch_bounds__(kThreads)
    attention_slope_sums_kernel(AttentionSlopeArgs args, std::int64_t slices) {
  SIMT_SHARED(float, s_sums, [kDown][kAcross]);
  const int column = static_cast<int>(threadIdx.x) % kAcross;
  const int down = static_cast<int>(threadIdx.x) / kAcross;
  const int unit = static_cast<int>(blockIdx.x) * kAcross + column;
  const int which = static_cast<int>(blockIdx.y);
  float* gradient = which == 0 ? args.bias_gradient : args.context_gradient;
  if (gradient == nullptr) return;
  float sum = 0;
  if (unit < args.units) {
#pragma unroll 4
    for (std::int64_t slice = down; slice < slices; slice += kDown)
      sum += args.partial[(slice * kSums + which) * args.units + unit];
  }
  s_sums[down][column] = sum;
  __syncthreads();  // all threads' sums before their reads
  if (down != 0 || unit >= args.units) return;
  for (int other = 1; other < kDown; ++other) sum += s_sums[other][column];
  gradient[unit] += sum;
}

template <int kCount>
__global__ void __launch_bounds__(kThreads)
    attention_pool_gradient_kernel(AttentionPoolGradientArgs args) {
  const int vectors = args.width / kCount;
  const std::int64_t count = args.sequences * args.t * vectors;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / vectors, sequence = row / args.t;
    const std::int64_t column = (i - row * vectors) * kCount;
    float dz[kCount] = {};
    if (row - sequence * args.t < length_of(args.lengths, sequence, args.t)) {
      const float a = args.a[row];
      float ds[kCount];
      load_elements(args.ds + sequence * args.width + column, ds);
      load_elements(args.dz + row * args.width + column, dz);
#pragma unroll
      for (int k = 0; k < kCount; ++k) dz[k] = fmaf(a, ds[k], dz[k]);
    }
    store_elements(dz, args.dz + row * args.width + column);
  }
}

bool are_aligned(int row, std::initializer_list<const float*> arrays) {
  if (row % kWide != 0) return false;
  for (const float* array : arrays)
    if (reinterpret_cast<std::uintptr_t>(array) % 16 != 0) return false;
  return true;
}

unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace

void attention_score_gradient_cuda(const AttentionScoreGradientArgs& args, CudaStream stream) {
  simt::launch(are_aligned(args.width, {args.z, args.ds}) ? attention_score_gradient_kernel<kWide>
                                                          : attention_score_gradient_kernel<1>,
               dim3(static_cast<unsigned>(args.sequences)), dim3(kThreads), 0, stream, args);
}

std::size_t attention_slope_scratch(std::int64_t rows, int units) {
  return static_cast<std::size_t>(slices_of(rows) * kSums * units) * sizeof(float);
}

void attention_slope_cuda(const AttentionSlopeArgs& args, CudaStream stream) {
  const bool wants_sums = args.bias_gradient != nullptr || args.context_gradient != nullptr;
  const bool wide = are_aligned(args.units, {args.u, args.dp, args.context});
  const std::int64_t slices = slices_of(args.rows);
  const dim3 grid(static_cast<unsigned>(slices),
                  blocks_of(args.units, kAcross * (wide ? kWide : 1)));
  simt::launch(wide ? attention_slope_kernel<kWide> : attention_slope_kernel<1>, grid,
               dim3(kThreads), 0, stream, args, slice_of(args.rows), wants_sums);
  if (!wants_sums) return;
  simt::launch(attention_slope_sums_kernel, dim3(blocks_of(args.units, kAcross), kSums),
               dim3(kThreads), 0, stream, args, slices);
}

void attention_pool_gradient_cuda(const AttentionPoolGradientArgs& args, CudaStream stream) {
  const bool wide = are_aligned(args.width, {args.ds, args.dz});
  const std::int64_t vectors = args.sequences * args.t * (args.width / (wide ? kWide : 1));
  const std::int64_t blocks = (vectors + kThreads - 1) / kThreads;
  simt::launch(wide ? attention_pool_gradient_kernel<kWide> : attention_pool_gradient_kernel<1>,
               dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)),
               dim3(kThreads), 0, stream, args);
}

}  // namespace tessera
