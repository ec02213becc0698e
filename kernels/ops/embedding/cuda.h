// The CUDA path of Embedding: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct EmbeddingArgs {
  const void* table;        // (words, features) of `dtype`
  const std::int32_t* ids;  // (count); one outside the table reads its nearest row
  float* y;                 // (count, features)
  std::int64_t count;
  int words, features;
  DType dtype;  // f32, bf16 or f16
};

void embedding_cuda(const EmbeddingArgs& args, CudaStream stream);

}  // namespace tessera
