// An image in another size:  y[i, j] = sum of row weight x column weight x x[row, column].
//
// Layout: x (n, h, w, c), y (n, ho, wo, c). Which pixels an output reads, and by what weights, the
// host has laid into a table for each axis, in the reference's arithmetic: nearest gives its bytes.
// One thread makes a quad of channels of one pixel of y, or one channel; neighbours find what they
// share of x in L1.
// Roofline: memory, x and y once. Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/resize/cuda.h"

namespace tessera {

namespace {

template <int kCount>
__global__ void __launch_bounds__(kRowThreads, 4)
    resize_kernel(const __grid_constant__ ResizeArgs args) {
  const auto groups = static_cast<unsigned>(args.c / kCount);  // of kCount channels
  const auto items = static_cast<unsigned>(args.wo) * groups;
  for_each_in_row(args.n * args.ho, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const auto ho = static_cast<unsigned>(args.ho), image = static_cast<unsigned>(row) / ho;
    const ResizeTap& down = args.rows[static_cast<unsigned>(row) - image * ho];
    const ResizeTap& across = args.columns[column];
    const auto load = [&](int i, int j, float(&to)[kCount]) {
      const std::int64_t pixel = (image * args.h + down.index[i]) * args.w + across.index[j];
      load_typed(args.x, pixel * args.c + std::int64_t{group} * kCount, args.dtype, to);
    };
    float y[kCount] = {};
    if (args.taps == 1) {
      load(0, 0, y);
    } else {
      for (int i = 0; i < args.taps; ++i) {
        for (int j = 0; j < args.taps; ++j) {
          float next[kCount];
          load(i, j, next);
          const float weight = down.weight[i] * across.weight[j];
#pragma unroll
          for (int k = 0; k < kCount; ++k) y[k] = fmaf(weight, next[k], y[k]);
        }
      }
    }
    store_typed(y, args.y, (row * items + item) * kCount, args.dtype);
  });
}

}  // namespace

void resize_cuda(const ResizeArgs& args, CudaStream stream) {
  with_quads(args.c, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    simt::launch(resize_kernel<kCount>, row_grid(args.n * args.ho, args.wo * args.c / kCount),
                 dim3(kRowThreads), 0, stream, args);
  });
}

}  // namespace tessera
