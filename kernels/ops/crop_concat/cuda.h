// The CUDA path of CropConcat: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera {

// A source of the joined map, whose pixel (i, j) is this one's (i + dy, j + dx), zeros outside.
struct JoinedMap {
  const void* x;         // (n, h, w, c)
  std::int64_t h, w, c;  // c in bytes
  std::int64_t dy, dx;
};

struct CropConcatArgs {
  JoinedMap first, second;  // in channel order
  void* y;                  // (n, h, w, first.c + second.c)
  std::int64_t n, h, w;
};

void crop_concat_cuda(const CropConcatArgs& args, CudaStream stream);

}  // namespace tessera
