// Batch normalisation at inference:  y = scale x + shift, per channel.
//
// Layout: x and y (pixels, c), scale and shift (c) f32. One thread maps up to 16 bytes of channels
// of a pixel with one fused multiply-add each; blocks stride over the tensor.
// Roofline: memory, x and y once; one multiply-add an element. Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/batch_norm/cuda.h"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 65536;

// Groups of kCount channels; a thread's channel advances by the grid's stride, wrapped, so that the
// loop divides nothing.
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    batch_norm_kernel(const T* __restrict__ x, const float* __restrict__ scale,
                      const float* __restrict__ shift, T* __restrict__ y, std::int64_t count,
                      std::int64_t groups) {
  constexpr int kQuad = kCount < 4 ? kCount : 4;  // scales that one load brings
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads, advance = stride % groups;
  std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x, group = i % groups;
  for (; i < count; i += stride) {
    float values[kCount];
    load_elements(x + i * kCount, values);
#pragma unroll
    for (int first = 0; first < kCount; first += kQuad) {
      float factor[kQuad], offset[kQuad];
      load_elements(scale + group * kCount + first, factor);
      load_elements(shift + group * kCount + first, offset);
#pragma unroll
      for (int k = 0; k < kQuad; ++k)
        values[first + k] = fmaf(values[first + k], factor[k], offset[k]);
    }
    store_elements(values, y + i * kCount);
    group += advance;
    if (group >= groups) group -= groups;
  }
}

}  // namespace

void batch_norm_cuda(const BatchNormArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / sizeof(T);
    const auto launch = [&](auto* kernel, int width) {
      const std::int64_t count = args.pixels * args.c / width;
      const std::int64_t blocks = (count + kThreads - 1) / kThreads;
      simt::launch(kernel, dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)),
                   dim3(kThreads), 0, stream, static_cast<const T*>(args.x), args.scale_shift,
                   args.scale_shift + args.c, static_cast<T*>(args.y), count, args.c / width);
    };
    if (args.c % kWide == 0) {
      launch(batch_norm_kernel<T, kWide>, kWide);
    } else {
      launch(batch_norm_kernel<T, 1>, 1);
    }
  });
}

}  // namespace tessera
