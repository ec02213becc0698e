// The CUDA path of Pad: what its launcher takes.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/cuda/strided.h"
#include "kernels/tensor.h"

namespace tessera {

// What a place outside of x shows.
enum class PadBorder : std::uint8_t { kConstant, kReflect, kEdge };

struct PadArgs {
  const void* x;
  void* y;
  StridedWalk<1> walk;             // y's elements; of x, where the place is one of its own
  std::int64_t before[kMostAxes];  // pads of each axis of the walk
  std::int64_t sizes[kMostAxes];   // of x along it
  PadBorder border;
  float value;  // of a constant
  DType dtype;  // f32, bf16 or f16
};

void pad_cuda(const PadArgs& args, CudaStream stream);

}  // namespace tessera
