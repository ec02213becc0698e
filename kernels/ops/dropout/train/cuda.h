// The CUDA path of Dropout in training: what its launchers take.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct DropoutTrainArgs {
  const void* x;       // `count` elements of `dtype`, at a multiple of 16 bytes
  void* y;             // likewise
  std::uint8_t* mask;  // (count), written: 1 where kept, else 0; at a multiple of 8 bytes
  std::int64_t count;
  std::uint64_t seed, stream;  // Philox's key and the upper half of its counter
  std::uint64_t threshold;     // the least word that keeps an element
  float scale;                 // of what is kept
  DType dtype;                 // f32, bf16 or f16
};

struct DropoutBackwardArgs {
  const void* dy;  // as x above
  const std::uint8_t* mask;
  void* dx;
  std::int64_t count;
  float scale;
  DType dtype;
};

void dropout_train_cuda(const DropoutTrainArgs& args, CudaStream stream);
void dropout_backward_cuda(const DropoutBackwardArgs& args, CudaStream stream);

}  // namespace tessera
