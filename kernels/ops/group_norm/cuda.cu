// Group normalisation in two passes over x:  y = activate((x - mean) scale + beta + residual).
//
// Layout: x and y (n, pixels, c). The first pass sums x and x^2 per channel in double, a block for
// some pixels of up to 128 channels: a thread takes every eighth pixel of a quad of channels, and
// the eight are added in order. A second kernel adds the blocks' sums of each group, in order of
// pixels, then channels. So bytes depend on an image's size alone, not on its batch. In double,
// var = E x^2 - mean^2 keeps 8 digits as long as |mean| < 3000 deviations. The second pass
// subtracts first, which keeps what a large mean would round away.
// Roofline: memory, x read twice and y written once. Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/strided.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/activation/curve.cuh"
#include "kernels/ops/group_norm/cuda.h"

namespace tessera {

namespace {

constexpr int kLanes = 32;                // channel groups side by side: a warp's
constexpr int kRows = 8;                  // pixels at once
constexpr int kThreads = kLanes * kRows;  // of the first pass

// Grid: slices of the images, blocks of kLanes kCount channels.
template <int kCount>
__global__ void __launch_bounds__(kThreads)
    norm_sums_kernel(const __grid_constant__ GroupNormArgs args) {
  SIMT_SHARED(double, s_sums, [kRows][2 * kCount][kLanes]);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t channel = (std::int64_t{blockIdx.y} * kLanes + lane) * kCount;
  const std::int64_t image = blockIdx.x / args.slices, slice = blockIdx.x % args.slices;
  const std::int64_t pixels = args.h * args.w, first = slice * kNormSlice;
  const std::int64_t end = first + kNormSlice < pixels ? first + kNormSlice : pixels;
  const bool exists = channel < args.c;

  double sums[kCount] = {}, squares[kCount] = {};
  if (exists) {
    for (std::int64_t pixel = first + row; pixel < end; pixel += kRows) {
      float x[kCount];
      load_typed(args.x, (image * pixels + pixel) * args.c + channel, args.dtype, x);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const double wide = x[k];
        sums[k] += wide;
        squares[k] = fma(wide, wide, squares[k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    s_sums[row][k][lane] = sums[k];
    s_sums[row][kCount + k][lane] = squares[k];
  }
  __syncthreads();  // puts the rows' sums before their sum
  if (row >= 2 || !exists) return;
  double* to = args.sums + ((image * args.slices + slice) * 2 + row) * args.c + channel;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    double sum = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) sum += s_sums[i][row * kCount + k][lane];
    to[k] = sum;
  }
}

// A thread for each channel of each image adds its slices, then one for each group its channels.
// Grid: images. Channels beyond the block's threads are taken in turns.
__global__ void __launch_bounds__(kThreads)
    norm_moments_kernel(const __grid_constant__ GroupNormArgs args) {
  const std::int64_t image = blockIdx.x;
  double* sums = args.sums + image * args.slices * 2 * args.c;  // the first slice's: the total
  for (std::int64_t i = threadIdx.x; i < 2 * args.c; i += kThreads) {
    double sum = sums[i];
    for (std::int64_t slice = 1; slice < args.slices; ++slice) sum += sums[slice * 2 * args.c + i];
    sums[i] = sum;
  }
  __syncthreads();  // puts the channels' sums before their groups'
  const std::int64_t width = args.width;
  float* mean_of = args.mean_scale + image * 2 * args.c;
  for (std::int64_t group = threadIdx.x; group < args.groups; group += kThreads) {
    double sum = 0, squares = 0;
    for (std::int64_t k = group * width; k < (group + 1) * width; ++k) {
      sum += sums[k];
      squares += sums[args.c + k];
    }
    const double mean = sum * args.share, variance = squares * args.share - mean * mean;
    const double inverse = 1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + args.eps);
    for (std::int64_t k = group * width; k < (group + 1) * width; ++k) {
      mean_of[k] = static_cast<float>(mean);
      mean_of[args.c + k] = static_cast<float>(inverse * args.gamma[k]);
    }
  }
}

template <int kCount>
__global__ void __launch_bounds__(kWalkThreads)
    norm_apply_kernel(const __grid_constant__ GroupNormArgs args) {
  const std::int64_t groups = args.c / kCount;  // of kCount channels
  for_each_item(args.n * args.h * args.w * groups, [&](std::int64_t item) {
    std::int64_t pixel = item;
    const std::int64_t channel = divide(pixel, groups) * kCount;
    std::int64_t row = pixel;
    const std::int64_t column = divide(row, args.w);
    std::int64_t image = row;
    row = divide(image, args.h);
    float y[kCount], mean[kCount], scale[kCount], shift[kCount];
    load_typed(args.x, item * kCount, args.dtype, y);
    load_elements(args.mean_scale + image * 2 * args.c + channel, mean);
    load_elements(args.mean_scale + (image * 2 + 1) * args.c + channel, scale);
    load_elements(args.beta + channel, shift);
#pragma unroll
    for (int k = 0; k < kCount; ++k) y[k] = fmaf(y[k] - mean[k], scale[k], shift[k]);
    if (args.residual.x != nullptr) {
      const Residual& r = args.residual;
      const std::int64_t at = image * r.image + row * r.pitch + column + r.origin;
      float added[kCount];
      load_typed(r.x, at * args.c + channel, args.dtype, added);
#pragma unroll
      for (int k = 0; k < kCount; ++k) y[k] += added[k];
    }
    activate(args.curve, static_cast<int>(channel), y);
    store_typed(y, args.y, item * kCount, args.dtype);
  });
}

}  // namespace

void group_norm_cuda(const GroupNormArgs& args, CudaStream stream) {
  with_quads(args.c, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    const std::int64_t groups = args.c / kCount, blocks = (groups + kLanes - 1) / kLanes;
    simt::launch(norm_sums_kernel<kCount>,
                 dim3(static_cast<unsigned>(args.n * args.slices), static_cast<unsigned>(blocks)),
                 dim3(kThreads), 0, stream, args);
    simt::launch(norm_moments_kernel, dim3(static_cast<unsigned>(args.n)), dim3(kThreads), 0,
                 stream, args);
    simt::launch(norm_apply_kernel<kCount>, walk_grid(args.n * args.h * args.w * groups),
                 dim3(kWalkThreads), 0, stream, args);
  });
}

}  // namespace tessera
