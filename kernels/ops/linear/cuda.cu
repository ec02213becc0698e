// Linear in exact f32: y = x W^T + b; x (rows, features), y (rows, units), W as GemmLayout has it.
//
// A block makes 128 x 64 or 16 x 64 elements of y in registers (gemm_fma.cuh); its next features
// are loaded into registers while it multiplies those in shared memory. Rows of x may be gathered.
// Roofline: 2 features FLOPs per element of y; at HAN's 9,600 x 100 -> 1,200 (2.3 GFLOP, 50 MB)
// FMA binds on an H100. Share of it: not measured yet. Oracle: reference.cpp.
#include "kernels/ops/linear/cuda.h"
#include "kernels/ops/linear/gemm_fma.cuh"

namespace tessera {

namespace {

static_assert(SimtManyRows::kRows == static_cast<int>(GemmRows::kMany));
static_assert(SimtFewRows::kRows == static_cast<int>(GemmRows::kFew));

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads) gemm_fma_kernel(GemmArgs args) {
  SIMT_SHARED(typename Tile::Shared, s_tile, [1]);
  const std::int64_t first_row = std::int64_t{blockIdx.x} * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  if (!find_sources(args, first_row, s_tile[0].source)) return;

  typename Tile::Sums sums;
  Tile::multiply(args, first_column, s_tile[0], sums);

  float bias[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    const int column = first_column + Tile::column(j);
    bias[j] = args.bias != nullptr && column < args.units ? args.bias[column] : 0;
  }
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    if (s_tile[0].source[Tile::row(i)] < 0) continue;
    float* y = args.y + (first_row + Tile::row(i)) * args.units + first_column;
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; ++j) {
      if (first_column + Tile::column(j) < args.units) y[Tile::column(j)] = sums[i][j] + bias[j];
    }
  }
}

template <class Tile>
void launch_tile(const GemmArgs& args, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((args.rows + Tile::kRows - 1) / Tile::kRows),
                  static_cast<unsigned>((args.units + Tile::kColumns - 1) / Tile::kColumns));
  simt::launch(gemm_fma_kernel<Tile>, grid, dim3(Tile::kThreads), 0, stream, args);
}

}  // namespace

void gemm_fma_cuda(const GemmArgs& args, GemmRows rows, CudaStream stream) {
  if (rows == GemmRows::kMany) {
    launch_tile<SimtManyRows>(args, stream);
  } else {
    launch_tile<SimtFewRows>(args, stream);
  }
}

void gemm_cuda(const GemmArgs& args, Precision rounding, GemmRows rows, CudaStream stream) {
  if (rounding == Precision::kFp32) {
    gemm_fma_cuda(args, rows, stream);
  } else {
    gemm_mma_cuda(args, rounding, rows, stream);
  }
}

}  // namespace tessera
