// Linear on tensor cores: y = x W^T + b; x (rows, features), y (rows, units), both f32; W rounded
// to tf32, bf16 or f16 beforehand (GemmLayout), x on its way into shared memory; sums in f32.
//
// A block of 4 warps makes 128 x 64 or 16 x 64 elements of y (gemm_mma.cuh); W arrives by cp.async
// and x through registers while the block multiplies what came before. Rows of x may be gathered.
// Roofline: at HAN's 9,600 x 100 -> 1,200 the 50 MB of x and y bind on an H100 (15 us), the
// products take 3. Share of it: not measured yet. Oracle: reference.cpp.
#include "kernels/ops/linear/cuda.h"
#include "kernels/ops/linear/gemm_sm80_mma.cuh"

namespace tessera {

namespace {

static_assert(MmaManyRows<BF16>::kRows == static_cast<int>(GemmRows::kMany));
static_assert(MmaFewRows<BF16>::kRows == static_cast<int>(GemmRows::kFew));

constexpr int kBlocks = 3;  // per multiprocessor: at most 170 registers

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, kBlocks) gemm_mma_kernel(GemmArgs args) {
  SIMT_SHARED(typename Tile::Shared, s_tile, [1]);
  const std::int64_t first_row = std::int64_t{blockIdx.x} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  if (!find_sources(args, first_row, s_tile[0].source)) return;

  typename Tile::Sums sums;
  Tile::multiply(args, first_column, s_tile[0], sums);

#pragma unroll
  for (int n = 0; n < Tile::kN; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = first_column + Tile::column(n, e);
      if (column >= args.units) continue;
      const float bias = args.bias != nullptr ? args.bias[column] : 0;
#pragma unroll
      for (int m = 0; m < Tile::kM; ++m) {
        const int row = Tile::row(m, e);
        if (s_tile[0].source[row] >= 0)
          args.y[(first_row + row) * args.units + column] = sums[m][n][e] + bias;
      }
    }
  }
}

template <class Tile>
void launch_tile(const GemmArgs& args, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((args.rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>((args.units + Tile::kColumns - 1) / Tile::kColumns));
  simt::launch(gemm_mma_kernel<Tile>, grid, dim3(Tile::kThreads), 0, stream, args);
}

}  // namespace

void gemm_mma_cuda(const GemmArgs& args, Precision rounding, GemmRows rows, CudaStream stream) {
  with_rounded(rounding, [&](auto type) {
    using T = decltype(type);
    if (rows == GemmRows::kMany) {
      launch_tile<MmaManyRows<T>>(args, stream);
    } else {
      launch_tile<MmaFewRows<T>>(args, stream);
    }
  });
}

}  // namespace tessera
