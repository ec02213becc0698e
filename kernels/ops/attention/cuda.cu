// Attention pooling (formulas: attention.h): scores in exact f32, softmax and weighted sum.
//
// Scores: the matrix product of linear/gemm_fma.cuh over the valid steps of all sequences; a block
// turns its 64 units of 16 or 128 steps into their share of the scores, so W x goes to memory in
// training alone, and even one short document spreads over several blocks.
// Pool: a block per sequence adds the shares, subtracts the maximum, and sums a_t x_t, whose second
// read comes from L2: threads take columns, groups of them every n-th step; groups add in order.
// Roofline: 2 d units FLOPs a step; at 9,600 steps, d 300, 200 units (1.2 GFLOP, x 11.5 MB) FMA
// binds on an H100 (20 us). Share of it: not measured yet. Oracle: reference.cpp.
#include "kernels/ops/attention/cuda.h"
#include "kernels/ops/linear/gemm_fma.cuh"

namespace tessera {

namespace {

constexpr int kWarp = 32;
constexpr int kPoolThreads = 512, kPoolWarps = kPoolThreads / kWarp;
constexpr int kMostColumnThreads = 128;  // of a group that sums steps
constexpr int kTrainBlocks = 2;          // per multiprocessor: at most 128 registers
constexpr unsigned kAllLanes = ~0u;

// kKeeps: u goes to memory.
template <class Tile, bool kKeeps>
__device__ inline void make_scores(const AttentionScoreArgs& args) {
  static_assert(Tile::kColumns == kAttentionSlice);
  SIMT_SHARED(typename Tile::Shared, s_tile, [1]);
  const GemmArgs& product = args.product;
  const std::int64_t first_row = std::int64_t{blockIdx.x} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  if (!find_sources(product, first_row, s_tile[0].source)) return;

  typename Tile::Sums sums;
  Tile::multiply(product, first_column, s_tile[0], sums);

  float share[Tile::kThreadRows] = {};
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    const int column = first_column + Tile::column(j);
    if (column >= product.units) continue;
    const float bias = product.bias[column], context = args.context[column];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      sums[i][j] = tanhf(sums[i][j] + bias);
      share[i] = fmaf(sums[i][j], context, share[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
#pragma unroll
    for (int offset = Tile::kSide / 2; offset > 0; offset /= 2)
      share[i] += __shfl_xor_sync(kAllLanes, share[i], offset);
    const int row = Tile::row(i);
    if (threadIdx.x % Tile::kSide == 0 && s_tile[0].source[row] >= 0)
      product.y[blockIdx.y * product.rows + first_row + row] = share[i];
  }
  if constexpr (kKeeps) {
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      if (s_tile[0].source[Tile::row(i)] < 0) continue;
      float* u = args.u + (first_row + Tile::row(i)) * product.units + first_column;
#pragma unroll
      for (int j = 0; j < Tile::kThreadColumns; ++j) {
        if (first_column + Tile::column(j) < product.units) u[Tile::column(j)] = sums[i][j];
      }
    }
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    attention_scores_fma_kernel(AttentionScoreArgs args) {
  make_scores<Tile, false>(args);
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, kTrainBlocks)
    attention_scores_train_kernel(AttentionScoreArgs args) {
  make_scores<Tile, true>(args);
}

struct Sum {
  static constexpr float kNothing = 0;
  __device__ static float of(float a, float b) { return a + b; }
};

// NaN loses: the exponentials carry it on.
struct Maximum {
  static constexpr float kNothing = -INFINITY;
  __device__ static float of(float a, float b) { return fmaxf(a, b); }
};

// `value` of all threads of the block reduced, in the same order always.
template <class Operation>
__device__ float reduce(float value, float (&s_warps)[kPoolWarps]) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = Operation::of(value, __shfl_xor_sync(kAllLanes, value, offset));
  if (threadIdx.x % kWarp == 0) s_warps[threadIdx.x / kWarp] = value;
  // Puts the warps' writes before their reads.
  __syncthreads();
  float all = Operation::kNothing;
#pragma unroll
  for (int warp = 0; warp < kPoolWarps; ++warp) all = Operation::of(all, s_warps[warp]);
  // Puts these reads before the writes of the next reduction.
  __syncthreads();
  return all;
}

// sums[column] = sum over steps of a_t x_t, kRun neighbouring columns per thread.
template <int kRun>
__device__ void weighted_sum(const float* x, const float* a, int length, int d, float* sums,
                             float* s_partial) {
  const int runs = d / kRun;
  int width = kWarp;  // threads of a group
  while (width < runs && width < kMostColumnThreads) width *= 2;
  const int groups = kPoolThreads / width, group = static_cast<int>(threadIdx.x) / width;
  const int lane = static_cast<int>(threadIdx.x) % width;
  for (int base = 0; base < runs; base += width) {
    const int run = base + lane;
    float sum[kRun] = {};
    if (run < runs) {
#pragma unroll 8
      for (int step = group; step < length; step += groups) {
        float values[kRun];
        load_elements(x + std::int64_t{step} * d + run * kRun, values);
        const float weight = a[step];
#pragma unroll
        for (int i = 0; i < kRun; ++i) sum[i] = fmaf(weight, values[i], sum[i]);
      }
    }
    store_elements(sum, s_partial + threadIdx.x * kRun);
    // Puts the groups' partial sums before their reads.
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < width * kRun && base * kRun + i < d;
         i += kPoolThreads) {
      float total = 0;
      for (int g = 0; g < groups; ++g) total += s_partial[g * width * kRun + i];
      sums[base * kRun + i] = total;
    }
    // Puts these reads before the next columns' writes, and the sums before their readers.
    __syncthreads();
  }
}

template <int kRun>
__global__ void __launch_bounds__(kPoolThreads) attention_pool_kernel(AttentionPoolArgs args) {
  SIMT_SHARED(float, s_warps, [kPoolWarps]);
  SIMT_SHARED(float4, s_partial, [kPoolThreads * kRun / 4]);
  const std::int64_t sequence = blockIdx.x;
  const int length = args.lengths != nullptr ? min(max(args.lengths[sequence], 0), args.t) : args.t;
  const int thread = static_cast<int>(threadIdx.x);
  const float* x = args.x + sequence * args.t * args.d;
  float* a = args.a + sequence * args.t;

  // Scores, kept in `a`: each thread reads again only what it wrote.
  const std::int64_t steps = args.sequences * args.t;
  float largest = Maximum::kNothing;
  for (int step = thread; step < length; step += kPoolThreads) {
    const float* share = args.shares + sequence * args.t + step;
    float score = 0;
    for (int slice = 0; slice < args.slices; ++slice) score += share[slice * steps];
    a[step] = score;
    largest = fmaxf(largest, score);
  }
  largest = reduce<Maximum>(largest, s_warps);

  // Weights. exp(log eps - m) is eps exp(-m) without its overflow at m below -88.
  float total = 0;
  for (int step = thread; step < length; step += kPoolThreads) {
    a[step] = expf(a[step] - largest);
    total += a[step];
  }
  const float exponentials = reduce<Sum>(total, s_warps);
  const float divisor = exponentials + (args.has_eps ? expf(args.log_eps - largest) : 0);
  for (int step = thread; step < length; step += kPoolThreads) a[step] /= divisor;
  for (int step = length + thread; step < args.t; step += kPoolThreads) a[step] = 0;
  if (args.u != nullptr) {
    float* u = args.u + sequence * args.t * args.units;
    const std::int64_t end = std::int64_t{args.t} * args.units;
    for (std::int64_t i = std::int64_t{length} * args.units + thread; i < end; i += kPoolThreads)
      u[i] = 0;
  }
  // Puts the weights before their reads by all threads.
  __syncthreads();

  float* sums = args.sums + sequence * args.d;
  weighted_sum<kRun>(x, a, length, args.d, sums, reinterpret_cast<float*>(s_partial));

  // The dense layer, a warp per unit. No weights, no sum of them: a length of 0 has no divisor.
  if (args.dense == nullptr) return;
  const float sum_of_weights = length > 0 ? exponentials / divisor : 0;
  const int lane = thread % kWarp;
  for (int unit = thread / kWarp; unit < args.dense_units; unit += kPoolWarps) {
    const float* row = args.dense + std::int64_t{unit} * args.d;
    float sum = 0;
#pragma unroll 4
    for (int i = lane; i < args.d; i += kWarp) sum = fmaf(row[i], sums[i], sum);
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    if (lane == 0)
      args.s[sequence * args.dense_units + unit] = fmaf(sum_of_weights, args.dense_bias[unit], sum);
  }
}

template <class Tile>
void launch_scores(const AttentionScoreArgs& args, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((args.product.rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>(attention_slices(args.product.units)));
  simt::launch(
      args.u == nullptr ? attention_scores_fma_kernel<Tile> : attention_scores_train_kernel<Tile>,
      grid, dim3(Tile::kThreads), 0, stream, args);
}

}  // namespace

void attention_scores_cuda(const AttentionScoreArgs& args, Precision rounding, GemmRows rows,
                           CudaStream stream) {
  if (rounding != Precision::kFp32) {
    attention_scores_mma_cuda(args, rounding, rows, stream);
  } else if (rows == GemmRows::kMany) {
    launch_scores<SimtManyRows>(args, stream);
  } else {
    launch_scores<SimtFewRows>(args, stream);
  }
}

void attention_pool_cuda(const AttentionPoolArgs& args, CudaStream stream) {
  constexpr int kWide = 4;
  const bool wide = args.d % kWide == 0 && reinterpret_cast<std::uintptr_t>(args.x) % 16 == 0;
  const auto launch = [&](auto* kernel) {
    simt::launch(kernel, dim3(static_cast<unsigned>(args.sequences)), dim3(kPoolThreads), 0, stream,
                 args);
  };
  if (wide) {
    launch(attention_pool_kernel<kWide>);
  } else {
    launch(attention_pool_kernel<1>);
  }
}

}  // namespace tessera
