// Max-pooling 2x2, stride 2:  y[i, j] = max of x[2i .. 2i+1, 2j .. 2j+1], per channel.
//
// Layout: x (n, h, w, c), y (n, h/2, w/2, c). One thread makes up to 16 bytes of channels of one
// pixel of y, so a warp reads and writes whole sectors; blocks stride over the rows of y.
// Roofline: memory, 5/4 of x's bytes, three comparisons an element. Share of it: not measured yet.
// Oracle: reference.cpp. NaN wins, as there and in PyTorch.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/max_pool/cuda.h"

namespace tessera {

namespace {

__device__ float larger(float a, float b) {
  return b > a || b != b ? b : a;
}

template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads)
    max_pool_kernel(const T* __restrict__ x, T* __restrict__ y, std::int64_t n, std::int64_t h,
                    std::int64_t w, std::int64_t c) {
  const std::int64_t ho = h / 2, wo = w / 2;
  const auto groups = static_cast<unsigned>(c / kCount);  // of kCount channels
  for_each_in_row(n * ho, static_cast<unsigned>(wo) * groups, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const std::int64_t image = row / ho;
    const std::int64_t top = image * h + 2 * (row - image * ho);
    const T* from = x + (top * w + 2 * column) * c + group * kCount;
    float best[kCount], next[kCount];
    load_elements(from, best);
    for (const std::int64_t offset : {c, w * c, w * c + c}) {
      load_elements(from + offset, next);
#pragma unroll
      for (int k = 0; k < kCount; ++k) best[k] = larger(best[k], next[k]);
    }
    store_elements(best, y + row * wo * c + std::int64_t{item} * kCount);
  });
}

}  // namespace

void max_pool_cuda(const MaxPoolArgs& args, CudaStream stream) {
  const std::int64_t ho = args.h / 2, wo = args.w / 2;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / sizeof(T);
    const auto launch = [&](auto* kernel, int width) {
      simt::launch(kernel, row_grid(args.n * ho, wo * args.c / width), dim3(kRowThreads), 0, stream,
                   static_cast<const T*>(args.x), static_cast<T*>(args.y), args.n, args.h, args.w,
                   args.c);
    };
    if (args.c % kWide == 0) {
      launch(max_pool_kernel<T, kWide>, kWide);
    } else {
      launch(max_pool_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
