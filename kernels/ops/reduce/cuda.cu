// Reduction over axes:  y[i] = mean, sum, max or min of x[i + j] over all j of the folded axes.
//
// A block makes 32 neighbours of y: 8 threads each take every eighth element of one, in double
// where they add, and their results are combined in order. Neighbours of y read neighbours of x
// where the last axis stays, as in the global pooling of an image. Roofline: memory, x read once,
// if y has enough elements to fill the GPU. Share of it: not measured yet. Oracle: reference.cpp.
// NaN wins in max and min.
#include "kernels/cuda/strided.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/reduce/cuda.h"

namespace tessera {

namespace {

constexpr int kLanes = 32;  // elements of y, a warp's
constexpr int kRows = 8;    // threads of each
constexpr int kThreads = kLanes * kRows;

__device__ double fold(ReduceFunction function, double y, double value) {
  switch (function) {
    case ReduceFunction::kMax:
      return value > y || value != value ? value : y;
    case ReduceFunction::kMin:
      return value < y || value != value ? value : y;
    default:
      return y + value;
  }
}

__global__ void __launch_bounds__(kThreads) reduce_kernel(const __grid_constant__ ReduceArgs args) {
  SIMT_SHARED(double, s_folded, [kRows][kLanes]);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  const double start = args.function == ReduceFunction::kMax   ? -INFINITY
                       : args.function == ReduceFunction::kMin ? INFINITY
                                                               : 0.0;
  const std::int64_t i = std::int64_t{blockIdx.x} * kLanes + lane;
  double y = start;
  if (i < args.kept.count) {
    std::int64_t from[1], offset[1];
    offsets_of(args.kept, i, 1, from);
    for (std::int64_t j = row; j < args.folded.count; j += kRows) {
      offsets_of(args.folded, j, 1, offset);
      float value[1];
      load_typed(args.x, from[0] + offset[0], args.dtype, value);
      y = fold(args.function, y, value[0]);
    }
  }
  s_folded[row][lane] = y;
  __syncthreads();  // puts the threads' results before they are combined
  if (row > 0 || i >= args.kept.count) return;
  for (int k = 1; k < kRows; ++k) y = fold(args.function, y, s_folded[k][lane]);
  if (args.function == ReduceFunction::kMean) y /= static_cast<double>(args.folded.count);
  const float result[1] = {static_cast<float>(y)};
  store_typed(result, args.y, i, args.dtype);
}

}  // namespace

void reduce_cuda(const ReduceArgs& args, CudaStream stream) {
  // An output of 2^31 blocks exceeds any memory.
  const std::int64_t blocks = (args.kept.count + kLanes - 1) / kLanes;
  simt::launch(reduce_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, args);
}

}  // namespace tessera
