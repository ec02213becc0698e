// Element-wise activation:  ReLU max(x, 0), the sigmoid 1 / (1 + e^-x), or any of curve.cuh. NaN
// stays NaN.
//
// A thread makes 16 bytes; what is left behind the last whole vector, the first threads element by
// element. Of the others than ReLU and the sigmoid a thread makes a quad, and finds its formula at
// run time.
// Roofline: memory, every element read and written once; 1 (ReLU) or about 20 (sigmoid) operations
// for each. Share of it: not measured yet.
// Oracle: reference.cpp. The sigmoid is within 3 ULP (kernels/cuda/classes.cuh).
#include "kernels/cuda/strided.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/activation/cuda.h"
#include "kernels/ops/activation/curve.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 256;

struct Relu {
  __device__ float operator()(float x) const { return relu(x); }
};
struct Sigmoid {
  __device__ float operator()(float x) const { return sigmoid(x); }
};

template <class T, class Function>
__global__ void __launch_bounds__(kThreads)
    activation_kernel(const T* __restrict__ x, T* __restrict__ y, std::int64_t count) {
  constexpr int kWide = 16 / sizeof(T);
  const Function function;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t vectors = count / kWide, left = count % kWide;
  if (i < vectors) {
    float values[kWide];
    load_elements(x + i * kWide, values);
#pragma unroll
    for (int k = 0; k < kWide; ++k) values[k] = function(values[k]);
    store_elements(values, y + i * kWide);
  }
  if (i < left) {
    const std::int64_t last = vectors * kWide + i;
    y[last] = from_float<T>(function(to_float(x[last])));
  }
}

// `c`: elements of the last axis, whole quads where kCount is one.
template <int kCount>
__global__ void __launch_bounds__(kWalkThreads)
    curve_kernel(const __grid_constant__ ActivationArgs args,
                 const __grid_constant__ ActivationCurve curve, std::int64_t c) {
  for_each_item(args.count / kCount, [&](std::int64_t item) {
    std::int64_t rest = item * kCount;
    const auto channel = curve.curve == Curve::kPrelu ? static_cast<int>(divide(rest, c)) : 0;
    float y[kCount];
    load_typed(args.x, item * kCount, args.dtype, y);
    activate(curve, channel, y);
    store_typed(y, args.y, item * kCount, args.dtype);
  });
}

template <class Function>
void launch(const ActivationArgs& args, CudaStream stream) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr std::int64_t kPerBlock = kThreads * (16 / sizeof(T));
    const std::int64_t blocks = (args.count + kPerBlock - 1) / kPerBlock;
    simt::launch(activation_kernel<T, Function>, dim3(static_cast<unsigned>(blocks)),
                 dim3(kThreads), 0, stream, static_cast<const T*>(args.x), static_cast<T*>(args.y),
                 args.count);
  });
}

}  // namespace

void relu_cuda(const ActivationArgs& args, CudaStream stream) {
  launch<Relu>(args, stream);
}

void sigmoid_cuda(const ActivationArgs& args, CudaStream stream) {
  launch<Sigmoid>(args, stream);
}

void activation_cuda(const ActivationArgs& args, const ActivationCurve& curve, std::int64_t c,
                     CudaStream stream) {
  const bool learned = curve.curve == Curve::kPrelu;  // else any four elements are alike
  with_quads(learned ? c : args.count, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    simt::launch(curve_kernel<kCount>, walk_grid(args.count / kCount), dim3(kWalkThreads), 0,
                 stream, args, curve, c);
  });
}

}  // namespace tessera
