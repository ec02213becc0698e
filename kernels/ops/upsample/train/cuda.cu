// Backward of bilinear 2x up-sampling:  dx[p, q] = sum_ij down[p, i] across[q, j] dy[i, j].
//
// Only outputs 2p - 1 .. 2p + 2 of an axis read its input p, in either mode, so each thread gathers
// 4 x 4 pixels of dy: a fixed order of sums, and no scattering. Layout: dx (n, h, w, c), dy (n, 2h,
// 2w, c). One thread makes up to 16 bytes of channels of one pixel of dx; each pixel of dy is read
// by four threads, two of which are neighbours and find it in L1, the others in L2. Weights are
// whole numbers over one divisor, however long the axis.
// Roofline: memory, 5/4 of dy's bytes; 40 operations an element of dx. Share of it: not measured
// yet.
// Oracle: train/reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/upsample/train/cuda.h"

namespace tessera {

namespace {

constexpr int kReaders = 4;  // outputs 2p - 1 .. 2p + 2 of an axis, which read its input p

// The weights with which they do; 0 where there is no such output. The outputs' source coordinates
// are those of cuda.cu: with corners aligned, m - m / (2e - 1) for output 2m and m + (e - 1 - m) /
// (2e - 1) for 2m + 1, of e inputs; otherwise m - 1/4 and m + 1/4, held within the axis.
__device__ void weights_of_readers(std::int64_t p, std::int64_t extent, bool align_corners,
                                   float (&weights)[kReaders]) {
  const bool is_first = p == 0, is_last = p + 1 == extent;
  if (align_corners) {
    const std::int64_t over = 2 * extent - 1;
    const float unit = 1.0f / static_cast<float>(over);
    weights[0] = is_first ? 0.0f : static_cast<float>(extent - p) * unit;
    weights[1] = static_cast<float>(over - p) * unit;
    weights[2] = static_cast<float>(extent + p) * unit;
    weights[3] = is_last ? 0.0f : static_cast<float>(p + 1) * unit;
  } else {
    weights[0] = is_first ? 0.0f : 0.25f;
    weights[1] = is_first ? 1.0f : 0.75f;
    weights[2] = is_last ? 1.0f : 0.75f;
    weights[3] = is_last ? 0.0f : 0.25f;
  }
}

template <class T, int kCount>
__global__ void __launch_bounds__(kRowThreads)
    upsample_backward_kernel(const UpsampleBackwardArgs args) {
  const auto groups = static_cast<unsigned>(args.c / kCount);  // of kCount channels
  const auto items = static_cast<unsigned>(args.w) * groups;
  for_each_in_row(args.n * args.h, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / groups, group = item % groups;
    const std::int64_t image = row / args.h, p = row - image * args.h;
    float down[kReaders], across[kReaders];
    weights_of_readers(p, args.h, args.align_corners, down);
    weights_of_readers(column, args.w, args.align_corners, across);
    const T* dy = static_cast<const T*>(args.dy) + std::int64_t{group} * kCount;
    const std::int64_t top = image * 2 * args.h + 2 * p - 1;
    const std::int64_t left = 2 * std::int64_t{column} - 1;
    float sum[kCount] = {};
#pragma unroll
    for (int i = 0; i < kReaders; ++i) {
      if (down[i] == 0.0f) continue;  // no such row of dy
      float row_sum[kCount] = {};
#pragma unroll
      for (int j = 0; j < kReaders; ++j) {
        if (across[j] == 0.0f) continue;  // no such column
        float gradient[kCount];
        load_elements(dy + ((top + i) * 2 * args.w + left + j) * args.c, gradient);
#pragma unroll
        for (int k = 0; k < kCount; ++k) row_sum[k] = fmaf(across[j], gradient[k], row_sum[k]);
      }
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum[k] = fmaf(down[i], row_sum[k], sum[k]);
    }
    store_elements(sum, static_cast<T*>(args.dx) + (row * items + item) * kCount);
  });
}

}  // namespace

void upsample_backward_cuda(const UpsampleBackwardArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / sizeof(T);
    const auto launch = [&](auto* kernel, int width) {
      simt::launch(kernel, row_grid(args.n * args.h, args.w * args.c / width), dim3(kRowThreads), 0,
                   stream, args);
    };
    if (args.c % kWide == 0) {
      launch(upsample_backward_kernel<T, kWide>, kWide);
    } else {
      launch(upsample_backward_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
