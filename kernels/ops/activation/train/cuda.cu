// Backward of element-wise activations:  ReLU dx = dy where y is not <= 0, else 0;  sigmoid
// dx = dy y (1 - y).
//
// A thread makes 16 bytes; what is left behind the last whole vector, the first threads element by
// element.
// Roofline: memory, y and dy read and dx written once; at most 3 operations an element. Share of
// it: not measured yet.
// Oracle: train/reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/activation/train/cuda.h"

namespace tessera {

namespace {

constexpr int kThreads = 256;

struct ReluGradient {
  __device__ float operator()(float y, float dy) const { return y <= 0.0f ? 0.0f : dy; }
};
struct SigmoidGradient {
  __device__ float operator()(float y, float dy) const { return dy * (y * (1.0f - y)); }
};

template <class T, class Gradient>
__global__ void __launch_bounds__(kThreads)
    activation_backward_kernel(const T* __restrict__ y, const T* __restrict__ dy,
                               T* __restrict__ dx, std::int64_t count) {
  constexpr int kWide = 16 / sizeof(T);
  const Gradient gradient;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t vectors = count / kWide, left = count % kWide;
  if (i < vectors) {
    float values[kWide], gradients[kWide];
    load_elements(y + i * kWide, values);
    load_elements(dy + i * kWide, gradients);
#pragma unroll
    for (int k = 0; k < kWide; ++k) gradients[k] = gradient(values[k], gradients[k]);
    store_elements(gradients, dx + i * kWide);
  }
  if (i < left) {
    const std::int64_t last = vectors * kWide + i;
    dx[last] = from_float<T>(gradient(to_float(y[last]), to_float(dy[last])));
  }
}

template <class Gradient>
void launch(const ActivationBackwardArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr std::int64_t kPerBlock = kThreads * (16 / sizeof(T));
    const std::int64_t blocks = (args.count + kPerBlock - 1) / kPerBlock;
    simt::launch(activation_backward_kernel<T, Gradient>, dim3(static_cast<unsigned>(blocks)),
                 dim3(kThreads), 0, stream, static_cast<const T*>(args.y),
                 static_cast<const T*>(args.dy), static_cast<T*>(args.dx), args.count);
  });
}

}  // namespace

void relu_backward_cuda(const ActivationBackwardArgs& args, CudaStream stream) {
  launch<ReluGradient>(args, stream);
}

void sigmoid_backward_cuda(const ActivationBackwardArgs& args, CudaStream stream) {
  launch<SigmoidGradient>(args, stream);
}

}  // namespace tessera
