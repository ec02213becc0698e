// Dropout in training:  y = mask x / (1 - rate),  dx = mask dy / (1 - rate). Element i is kept
// where word i % 4 of Philox's block i / 4 is not below a threshold: the CPU's mask to the byte.
//
// A thread makes 16 bytes of y or dx, four elements for each block of Philox; what is left behind
// the last whole vector, the first threads element by element.
// Roofline: memory, every element read and written once and a byte of mask. Philox takes 20 wide
// products for four elements, which at 16 bits is nearly as long as an H100's memory takes. Share
// of it: not measured yet.
// Oracle: train/reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/dropout/train/cuda.h"
#include "kernels/ops/dropout/train/philox.h"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr int kWords = 4;  // of a block of Philox

template <class T>
constexpr int kWide = 16 / sizeof(T);

template <class T>
__global__ void __launch_bounds__(kThreads) dropout_train_kernel(const DropoutTrainArgs args) {
  constexpr int kCount = kWide<T>;
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t vectors = args.count / kCount, left = args.count % kCount;
  std::uint32_t words[kWords];
  if (i < vectors) {
    float values[kCount];
    Elements<std::uint8_t, kCount> kept;
    load_elements(x + i * kCount, values);
#pragma unroll
    for (int first = 0; first < kCount; first += kWords) {
      philox(args.seed, args.stream, static_cast<std::uint64_t>(i * kCount + first) / kWords,
             words);
#pragma unroll
      for (int k = 0; k < kWords; ++k) {
        const bool keep = words[k] >= args.threshold;
        kept.at[first + k] = keep;
        values[first + k] = keep ? values[first + k] * args.scale : 0.0f;
      }
    }
    store_elements(values, y + i * kCount);
    *reinterpret_cast<Elements<std::uint8_t, kCount>*>(args.mask + i * kCount) = kept;
  }
  if (i < left) {
    const std::int64_t last = vectors * kCount + i;
    const auto place = static_cast<std::uint64_t>(last);
    philox(args.seed, args.stream, place / kWords, words);
    const int which = static_cast<int>(place % kWords);
    std::uint32_t word = words[0];  // chosen without an index: an array with one leaves registers
#pragma unroll
    for (int k = 1; k < kWords; ++k) word = which == k ? words[k] : word;
    const bool keep = word >= args.threshold;
    args.mask[last] = keep;
    y[last] = from_float<T>(keep ? to_float(x[last]) * args.scale : 0.0f);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_backward_kernel(const DropoutBackwardArgs args) {
  constexpr int kCount = kWide<T>;
  const T* dy = static_cast<const T*>(args.dy);
  T* dx = static_cast<T*>(args.dx);
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t vectors = args.count / kCount, left = args.count % kCount;
  if (i < vectors) {
    float values[kCount];
    load_elements(dy + i * kCount, values);
    const auto kept =
        *reinterpret_cast<const Elements<std::uint8_t, kCount>*>(args.mask + i * kCount);
#pragma unroll
    for (int k = 0; k < kCount; ++k) values[k] = kept.at[k] != 0 ? values[k] * args.scale : 0.0f;
    store_elements(values, dx + i * kCount);
  }
  if (i < left) {
    const std::int64_t last = vectors * kCount + i;
    dx[last] = from_float<T>(args.mask[last] != 0 ? to_float(dy[last]) * args.scale : 0.0f);
  }
}

template <class T>
dim3 grid_of(std::int64_t count) {
  constexpr std::int64_t kPerBlock = kThreads * kWide<T>;
  return dim3(static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock));
}

}  // namespace

void dropout_train_cuda(const DropoutTrainArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    simt::launch(dropout_train_kernel<T>, grid_of<T>(args.count), dim3(kThreads), 0, stream, args);
  });
}

void dropout_backward_cuda(const DropoutBackwardArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    simt::launch(dropout_backward_kernel<T>, grid_of<T>(args.count), dim3(kThreads), 0, stream,
                 args);
  });
}

}  // namespace tessera
