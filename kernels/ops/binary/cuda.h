// The CUDA path of Binary: what its launcher takes.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/cuda/strided.h"
#include "kernels/tensor.h"

namespace tessera {

enum class BinaryFunction : std::uint8_t { kAdd, kSub, kMul, kDiv, kMin, kMax };

struct BinaryArgs {
  const void *a, *b;    // of a_type, b_type; strides of 0 repeat an element
  void* y;              // dense, in the order of the walk
  StridedWalk<2> walk;  // of a, b
  BinaryFunction function;
  DType a_type, b_type, y_type;  // f32, bf16 or f16
};

void binary_cuda(const BinaryArgs& args, CudaStream stream);

}  // namespace tessera
