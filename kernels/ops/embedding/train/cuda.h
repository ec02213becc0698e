// The CUDA path of Embedding's backward run: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera {

constexpr int kEmbeddingDigits = 256;           // of the radix sort of the places by their ids
constexpr std::int64_t kEmbeddingUnit = 512;    // places that a warp sorts
constexpr std::int64_t kEmbeddingSegment = 64;  // sorted places that a warp sums

constexpr std::int64_t embedding_units(std::int64_t count) {
  return (count + kEmbeddingUnit - 1) / kEmbeddingUnit;
}
constexpr std::int64_t embedding_segments(std::int64_t count) {
  return (count + kEmbeddingSegment - 1) / kEmbeddingSegment;
}

struct EmbeddingBackwardArgs {
  const std::int32_t* ids;  // (count); one outside the table counts as its nearest row
  const float* dy;          // (count, features)
  float* gradient;          // (words, features), added to
  std::int64_t count;       // below 2^31
  int words, features;

  // Scratch, written before it is read.
  std::int32_t* keys[2];    // (count): ids
  std::int32_t* places[2];  // (count)
  std::int32_t* offsets;    // (kEmbeddingDigits, units)
  float* heads;             // (segments, features)
  float* tails;             // (segments, features)
};

void embedding_backward_cuda(const EmbeddingBackwardArgs& args, CudaStream stream);

}  // namespace tessera
