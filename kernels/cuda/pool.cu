// Pools of any window:  y[i, j] = max or mean of x[i stride - before + k dilation, ...], per
// channel.
//
// Layout: x (n, h, w, c), y (n, ho, wo, c). One thread makes a quad of channels of one pixel of y,
// or one channel, and visits its window row by row: the order of a sum depends on the window alone.
// Windows that overlap find their pixels in L1 and L2.
// Roofline: memory, x and y once, for windows of a few pixels. Share of it: not measured yet.
// Oracles: reference.cpp of max_pool and avg_pool.
#include "kernels/cuda/pool.h"

#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/typed.cuh"

namespace tessera {

namespace {

// Taps [first, end) of the window that begins at `start` lie within [low, high). In 32 bits
// (pool_step.h): a division of 64 is a call, which spills registers.
struct Taps {
  int first, end;

  __device__ Taps(int start, int low, int high, int kernel, int dilation) {
    const auto before = [&](int pixel) {  // taps whose pixels are below `pixel`
      const int taps = (pixel - start + dilation - 1) / dilation;
      return pixel <= start ? 0 : taps < kernel ? taps : kernel;
    };
    first = before(low), end = before(high);
  }
};

template <int kCount>
__global__ void __launch_bounds__(kRowThreads, 4)
    pool_kernel(const __grid_constant__ PoolArgs args) {
  const auto groups = static_cast<unsigned>(args.c / kCount);  // of kCount channels
  const auto items = static_cast<unsigned>(args.wo) * groups;
  const bool is_max = args.kind == PoolKind::kMax;
  for_each_in_row(args.n * args.ho, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const auto ho = static_cast<unsigned>(args.ho), image = static_cast<unsigned>(row) / ho;
    const int h = static_cast<int>(args.h), w = static_cast<int>(args.w);
    const int y_row = static_cast<int>(static_cast<unsigned>(row) - image * ho);
    const int top = y_row * args.stride[0] - args.before[0];
    const int left = static_cast<int>(column) * args.stride[1] - args.before[1];
    const Taps rows(top, 0, h, args.kernel[0], args.dilation[0]);
    const Taps columns(left, 0, w, args.kernel[1], args.dilation[1]);
    float y[kCount], next[kCount];
#pragma unroll
    for (float& value : y) value = is_max ? -INFINITY : 0.0f;
    for (int i = rows.first; i < rows.end; ++i) {
      const std::int64_t at = (image * args.h + top + i * args.dilation[0]) * args.w;
      for (int j = columns.first; j < columns.end; ++j) {
        const std::int64_t pixel = at + left + j * args.dilation[1];
        load_typed(args.x, pixel * args.c + std::int64_t{group} * kCount, args.dtype, next);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          if (!is_max) {
            y[k] += next[k];
          } else if (next[k] > y[k] || next[k] != next[k]) {
            y[k] = next[k];
          }
        }
      }
    }
    if (!is_max) {
      std::int64_t count = std::int64_t{rows.end - rows.first} * (columns.end - columns.first);
      if (args.kind == PoolKind::kMeanPadded) {
        // What a last window holds behind the padding never counts.
        const Taps tall(top, top, h + args.behind[0], args.kernel[0], args.dilation[0]);
        const Taps wide(left, left, w + args.behind[1], args.kernel[1], args.dilation[1]);
        count = std::int64_t{tall.end} * wide.end;
      }
      const float divisor = static_cast<float>(count > 1 ? count : 1);
#pragma unroll
      for (float& value : y) value /= divisor;
    }
    store_typed(y, args.y, (row * items + item) * kCount, args.dtype);
  });
}

}  // namespace

void pool_cuda(const PoolArgs& args, CudaStream stream) {
  with_quads(args.c, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    simt::launch(pool_kernel<kCount>, row_grid(args.n * args.ho, args.wo * args.c / kCount),
                 dim3(kRowThreads), 0, stream, args);
  });
}

}  // namespace tessera
