// Weights in the order that a kernel reads them, packed on the device: what inference does once on
// the host, training does in each run.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/precision.h"

namespace tessera {

// packed[i] = weight[order[i]], rounded, or 0 where order[i] is negative. An element takes 4 bytes,
// or 2 if it is rounded to bf16 or f16.
struct PackArgs {
  const float* weight;
  const std::int32_t* order;  // (count)
  void* packed;               // (count)
  std::int64_t count;
  Precision rounding;
};

// What pack_cuda makes of one weight, by the host: to nearest even, tf32 to nearest with ties away
// from zero, as tensor cores read it.
void store_rounded(Precision rounding, float value, std::byte* to);

void pack_cuda(const PackArgs& args, CudaStream stream);

}  // namespace tessera
