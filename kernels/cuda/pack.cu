// Weights into the order that a kernel reads them:  packed[i] = round(weight[order[i]]), 0 where
// the order is negative.
//
// Layouts: flat; the order says all. A thread makes one element after the other, neighbours make
// neighbours: orders and packed weights move in whole lines, the weight, which the order scatters,
// through L2. Roofline: memory, 10 to 12 bytes per element. Share of it: not measured yet.
// Oracle: the loop in the first line (tests/cuda/output_gradient_test.cpp).
#include "kernels/cuda/pack.h"

#include "kernels/cuda/element.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 1 << 16;  // of a grid; threads stride over what is left

template <Precision kRounding>
using Packed = std::conditional_t<kRounding == Precision::kBf16, BF16,
                                  std::conditional_t<kRounding == Precision::kFp16, F16, float>>;

template <Precision kRounding>
__global__ void __launch_bounds__(kThreads) pack_kernel(const PackArgs args) {
  using T = Packed<kRounding>;
  auto* packed = static_cast<T*>(args.packed);
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.count;
       i += stride) {
    const std::int32_t from = args.order[i];
    float value = from < 0 ? 0.0f : args.weight[from];
    if constexpr (kRounding == Precision::kTf32) value = __uint_as_float(ptx::to_tf32(value));
    packed[i] = from_float<T>(value);
  }
}

template <Precision kRounding>
void launch(const PackArgs& args, CudaStream stream) {
  const std::int64_t blocks = (args.count + kThreads - 1) / kThreads;
  const dim3 grid(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
  simt::launch(pack_kernel<kRounding>, grid, dim3(kThreads), 0, stream, args);
}

}  // namespace

void pack_cuda(const PackArgs& args, CudaStream stream) {
  if (args.count <= 0) return;
  switch (args.rounding) {
    case Precision::kFp32:
      return launch<Precision::kFp32>(args, stream);
    case Precision::kTf32:
      return launch<Precision::kTf32>(args, stream);
    case Precision::kBf16:
      return launch<Precision::kBf16>(args, stream);
    case Precision::kFp16:
      return launch<Precision::kFp16>(args, stream);
  }
}

}  // namespace tessera
