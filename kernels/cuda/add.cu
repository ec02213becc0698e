// sum[i] += term[i], added in f32 and rounded to the elements' type.
//
// Layouts: flat. A thread adds vectors of 16 bytes, neighbours neighbouring ones; the last
// elements, and operands that do not lie at whole vectors, are added one by one. Roofline: memory,
// 3 passes. Share of it: not measured yet. Oracle: the formula
// (tests/cuda/output_gradient_test.cpp).
#include "kernels/cuda/add.h"

#include "kernels/cuda/element.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 1 << 16;  // of a grid; threads stride over what is left
constexpr int kVectorBytes = 16;

template <int kCount, class T>
__device__ void add_elements(T* sum, const T* term) {
  float a[kCount], b[kCount];
  load_elements(sum, a);
  load_elements(term, b);
#pragma unroll
  for (int i = 0; i < kCount; ++i) a[i] += b[i];
  store_elements(a, sum);
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads) add_kernel(const AddArgs args) {
  auto* sum = static_cast<T*>(args.sum);
  const auto* term = static_cast<const T*>(args.term);
  const std::int64_t vectors = args.count / kCount;
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = thread; i < vectors; i += stride)
    add_elements<kCount>(sum + i * kCount, term + i * kCount);
  const std::int64_t rest = vectors * kCount + thread;
  if (rest < args.count) add_elements<1>(sum + rest, term + rest);
}

bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % kVectorBytes == 0;
}

template <class T, int kCount>
void launch(const AddArgs& args, CudaStream stream) {
  // A block more than the vectors fill would be idle; one is needed for a rest without vectors.
  const std::int64_t blocks = (args.count / kCount + kThreads - 1) / kThreads + (kCount > 1);
  const dim3 grid(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
  simt::launch(add_kernel<T, kCount>, grid, dim3(kThreads), 0, stream, args);
}

}  // namespace

void add_cuda(const AddArgs& args, CudaStream stream) {
  if (args.count <= 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    if (is_aligned(args.sum) && is_aligned(args.term)) {
      launch<T, kVectorBytes / static_cast<int>(sizeof(T))>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

}  // namespace tessera
