// The CUDA path of Activation: what its launchers take.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/stream.h"
#include "kernels/ops/activation/curve.h"
#include "kernels/tensor.h"

namespace tessera {

struct Activation;
struct CudaSetup;
class DeviceBuffer;

struct ActivationArgs {
  const void* x;  // `count` elements of `dtype`, at a multiple of 16 bytes
  void* y;        // likewise, or x itself
  std::int64_t count;
  DType dtype;  // f32, bf16 or f16
};

void relu_cuda(const ActivationArgs& args, CudaStream stream);
void sigmoid_cuda(const ActivationArgs& args, CudaStream stream);
// Any curve; channels are the last axis, of `c` elements.
void activation_cuda(const ActivationArgs& args, const ActivationCurve& curve, std::int64_t c,
                     CudaStream stream);

// A curve and the slopes that it points to.
struct DeviceCurve {
  ActivationCurve curve;
  std::shared_ptr<const DeviceBuffer> slopes;
};
// `learned` are the slopes of prelu, repeated to `c` if they are fewer; null for other kinds.
DeviceCurve device_curve(const Activation& op, const TensorView* learned, std::int64_t c,
                         const CudaSetup& setup);

}  // namespace tessera
