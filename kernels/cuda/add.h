// The sum of the gradients that several readers of one value give.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct AddArgs {
  void* sum;         // (count), written: itself plus the term, rounded to its type
  const void* term;  // (count)
  std::int64_t count;
  DType dtype;  // of both: f32, bf16 or f16
};

void add_cuda(const AddArgs& args, CudaStream stream);

}  // namespace tessera
