// The scores of attention pooling (formulas: attention.h) on tensor cores: x and W rounded to tf32,
// bf16 or f16 before they are multiplied, all else in f32.
//
// As in cuda.cu, with the tile of linear/gemm_sm80_mma.cuh: the 4 lanes that share a row add their
// columns' shares, then the block's 4 warps do, in order.
// Roofline: at 9,600 steps, d 300, 200 units the 11.5 MB of x bind on an H100 (4 us), the products
// take 2. Share of it: not measured yet. Oracle: reference.cpp.
#include "kernels/ops/attention/cuda.h"
#include "kernels/ops/linear/gemm_sm80_mma.cuh"

namespace tessera {

namespace {

constexpr int kBlocks = 3;  // per multiprocessor: at most 170 registers

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, kBlocks)
    attention_scores_mma_kernel(AttentionScoreArgs args) {
  static_assert(Tile::kColumns == kAttentionSlice);
  SIMT_SHARED(typename Tile::Shared, s_tile, [1]);
  SIMT_SHARED(float, s_share, [Tile::kWarps][Tile::kRows]);
  const GemmArgs& product = args.product;
  const std::int64_t first_row = std::int64_t{blockIdx.x} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  if (!find_sources(product, first_row, s_tile[0].source)) return;

  typename Tile::Sums sums;
  Tile::multiply(product, first_column, s_tile[0], sums);

  // Elements 0 and 1 of an mma tile are one row, 2 and 3 another.
  float share[Tile::kM][2] = {};
#pragma unroll
  for (int n = 0; n < Tile::kN; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = first_column + Tile::column(n, e);
      if (column >= product.units) continue;
      const float bias = product.bias[column], context = args.context[column];
#pragma unroll
      for (int m = 0; m < Tile::kM; ++m) {
        const float u = tanhf(sums[m][n][e] + bias);
        share[m][e / 2] = fmaf(u, context, share[m][e / 2]);
        const int row = Tile::row(m, e);
        if (args.u != nullptr && s_tile[0].source[row] >= 0)
          args.u[(first_row + row) * product.units + column] = u;
      }
    }
  }
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      share[m][half] += __shfl_xor_sync(~0u, share[m][half], 2);
      share[m][half] += __shfl_xor_sync(~0u, share[m][half], 1);
      if (thread % 4 == 0) s_share[thread / 32][Tile::row(m, 2 * half)] = share[m][half];
    }
  }
  // Puts the warps' shares before their reads.
  __syncthreads();
  for (int row = thread; row < Tile::kRows; row += Tile::kThreads) {
    if (s_tile[0].source[row] < 0) continue;
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < Tile::kWarps; ++warp) sum += s_share[warp][row];
    product.y[blockIdx.y * product.rows + first_row + row] = sum;
  }
}

template <class Tile>
void launch_scores(const AttentionScoreArgs& args, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((args.product.rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>(attention_slices(args.product.units)));
  simt::launch(attention_scores_mma_kernel<Tile>, grid, dim3(Tile::kThreads), 0, stream, args);
}

}  // namespace

void attention_scores_mma_cuda(const AttentionScoreArgs& args, Precision rounding, GemmRows rows,
                               CudaStream stream) {
  with_rounded(rounding, [&](auto type) {
    using T = decltype(type);
    if (rows == GemmRows::kMany) {
      launch_scores<MmaManyRows<T>>(args, stream);
    } else {
      launch_scores<MmaFewRows<T>>(args, stream);
    }
  });
}

}  // namespace tessera
