// Bilinear 2x up-sampling:  y = a + t (b - a), across two columns of two rows, then down.
//
// Layout: x (n, h, w, c), y (n, ho, wo, c). One thread makes up to 16 bytes of channels of one
// pixel of y from the same channels of four pixels of x, which neighbours find in L1. Source
// coordinates are whole numbers and exact fractions, however long the axis.
// Roofline: memory, y's bytes and a quarter of them again for x; 9 operations an element of y.
// Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/upsample/cuda.h"

namespace tessera {

namespace {

// Between inputs `first` and `second` of an axis, `part` of the way.
struct Sample {
  std::int64_t first, second;
  float part;
};

// Where output `i` of a whole axis of `extent` inputs lies in x. With corners aligned at i (e - 1)
// / (2e - 1), which is m - m / (2e - 1) for i = 2m and m + (e - 1 - m) / (2e - 1) for i = 2m + 1;
// otherwise at m - 1/4 or m + 1/4, but not before 0.
__device__ Sample sample(std::int64_t i, const UpsampleArgs& args, int side) {
  const std::int64_t extent = args.whole[side], before = args.before[side];
  const std::int64_t m = i / 2;
  const bool odd = i % 2 != 0;
  if (i == 0) return {-before, -before, 0.0f};
  const std::int64_t first = odd ? m : m - 1;
  const std::int64_t second = first + 1 < extent ? first + 1 : first;
  if (!args.align_corners) return {first - before, second - before, odd ? 0.25f : 0.75f};
  const std::int64_t over = 2 * extent - 1, part = (odd ? extent - 1 : over) - m;
  return {first - before, second - before, static_cast<float>(part) / static_cast<float>(over)};
}

template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads) upsample_kernel(const UpsampleArgs args) {
  const auto groups = static_cast<unsigned>(args.c / kCount);  // of kCount channels
  const std::int64_t ho = args.ho, wo = args.wo;
  const auto items = static_cast<unsigned>(wo) * groups;
  for_each_in_row(args.n * ho, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const std::int64_t image = row / ho;
    const Sample down = sample(args.first[0] + row - image * ho, args, 0);
    const Sample across = sample(args.first[1] + column, args, 1);
    const T* x = static_cast<const T*>(args.x) + std::int64_t{group} * kCount;
    const auto load_row = [&](std::int64_t from, float(&to)[kCount]) {
      const std::int64_t pixel = (image * args.h + from) * args.w;
      float right[kCount];
      load_elements(x + (pixel + across.first) * args.c, to);
      load_elements(x + (pixel + across.second) * args.c, right);
#pragma unroll
      for (int k = 0; k < kCount; ++k) to[k] = fmaf(across.part, right[k] - to[k], to[k]);
    };
    float top[kCount], bottom[kCount];
    load_row(down.first, top);
    load_row(down.second, bottom);
#pragma unroll
    for (int k = 0; k < kCount; ++k) top[k] = fmaf(down.part, bottom[k] - top[k], top[k]);
    store_elements(top, static_cast<T*>(args.y) + (row * items + item) * kCount);
  });
}

}  // namespace

void upsample_cuda(const UpsampleArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / sizeof(T);
    const auto launch = [&](auto* kernel, int width) {
      simt::launch(kernel, row_grid(args.n * args.ho, args.wo * args.c / width), dim3(kRowThreads),
                   0, stream, args);
    };
    if (args.c % kWide == 0) {
      launch(upsample_kernel<T, kWide>, kWide);
    } else {
      launch(upsample_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
