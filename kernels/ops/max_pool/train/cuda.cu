// Backward of max-pooling:  of the four pixels x[2i .. 2i+1, 2j .. 2j+1], the first of the largest
// gets dy[i, j]; the others, and a last odd row or column, get 0. Per channel.
//
// Layout: x and dx (n, h, w, c), dy (n, h/2, w/2, c). One thread writes up to 16 bytes of channels
// of the four pixels of one window, so a warp reads and writes whole sectors; the windows of an odd
// edge have fewer pixels. Which pixel won is decided anew from x: an index kept by the forward run
// would save less than it costs. Blocks stride over the rows of windows.
// Roofline: memory, 9/4 of x's bytes, about 6 operations an element of x. Share of it: not measured
// yet.
// Oracle: train/reference.cpp. A NaN counts as the largest, as there and in PyTorch.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/max_pool/train/cuda.h"

namespace tessera {

namespace {

// May a later pixel take the window from `best`?
__device__ bool wins(float value, float best) {
  return value > best || (value != value && best == best);
}

template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads)
    max_pool_backward_kernel(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ dx,
                             std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c) {
  constexpr int kPixels = 4;                               // of a window
  const auto groups = static_cast<unsigned>(c / kCount);   // of kCount channels
  const auto across = static_cast<unsigned>((w + 1) / 2);  // windows, one of an odd edge included
  const std::int64_t down = (h + 1) / 2, row_pitch = w * c;
  for_each_in_row(n * down, across * groups, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const std::int64_t image = row / down, i = row - image * down;
    const bool has_below = 2 * i + 1 < h, has_right = 2 * std::int64_t{column} + 1 < w;
    const std::int64_t first =
        ((image * h + 2 * i) * w + 2 * std::int64_t{column}) * c + std::int64_t{group} * kCount;
    const std::int64_t offsets[kPixels] = {0, c, row_pitch, row_pitch + c};
    float gradient[kCount] = {};
    int winner[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) winner[k] = kPixels;  // none
    if (has_below && has_right) {
      float best[kCount], next[kCount];
      load_elements(x + first, best);
#pragma unroll
      for (int k = 0; k < kCount; ++k) winner[k] = 0;
#pragma unroll
      for (int pixel = 1; pixel < kPixels; ++pixel) {
        load_elements(x + first + offsets[pixel], next);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          if (!wins(next[k], best[k])) continue;
          best[k] = next[k];
          winner[k] = pixel;
        }
      }
      const std::int64_t pooled = (image * (h / 2) + i) * (w / 2) + column;
      load_elements(dy + pooled * c + std::int64_t{group} * kCount, gradient);
    }
#pragma unroll
    for (int pixel = 0; pixel < kPixels; ++pixel) {
      const bool is_below = pixel / 2 != 0, is_right = pixel % 2 != 0;
      if ((is_below && !has_below) || (is_right && !has_right)) continue;
      float result[kCount];
#pragma unroll
      for (int k = 0; k < kCount; ++k) result[k] = winner[k] == pixel ? gradient[k] : 0.0f;
      store_elements(result, dx + first + offsets[pixel]);
    }
  });
}

}  // namespace

void max_pool_backward_cuda(const MaxPoolBackwardArgs& args, CudaStream stream) {
  const std::int64_t rows = args.n * ((args.h + 1) / 2), columns = (args.w + 1) / 2;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / sizeof(T);
    const auto launch = [&](auto* kernel, int width) {
      simt::launch(kernel, row_grid(rows, columns * args.c / width), dim3(kRowThreads), 0, stream,
                   static_cast<const T*>(args.x), static_cast<const T*>(args.dy),
                   static_cast<T*>(args.dx), args.n, args.h, args.w, args.c);
    };
    if (args.c % kWide == 0) {
      launch(max_pool_backward_kernel<T, kWide>, kWide);
    } else {
      launch(max_pool_backward_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
