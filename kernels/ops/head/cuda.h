// The CUDA path of Head: what its launcher takes.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

// How the classes are shared: `groups` warps have `per_lane` of them each (the last ones may be
// padding), and every lane of a warp has its own pixel. Up to 32 classes are one lane's, so that
// softmax and argmax stay in registers; more are four warps'.
struct HeadTiling {
  int per_lane = 0;  // 2, 4, 8, 16, 32; 16, 32, 64 of four groups
  int groups = 0;    // 1 or 4

  int columns() const { return groups * per_lane; }  // of the packed weights
};

inline HeadTiling head_tiling(int classes) {
  constexpr int kMostPerLane = 32, kGroups = 4;
  const int padded = static_cast<int>(std::bit_ceil(static_cast<unsigned>(classes)));
  if (padded <= kMostPerLane) return {padded < 2 ? 2 : padded, 1};
  return {padded / kGroups, kGroups};
}

// Channels of the packed weights: what is not there is zero.
inline std::int64_t head_packed_channels(std::int64_t c_in) {
  constexpr std::int64_t kWidest = 8;  // elements of a 16-byte vector
  return (c_in + kWidest - 1) / kWidest * kWidest;
}

struct HeadArgs {
  const void* x;         // (pixels, c_in) of `dtype`
  const float* weights;  // (groups, c_packed, per_lane) of head_tiling
  const float* bias;     // (groups, per_lane)
  std::uint8_t* mask;    // (pixels)
  float* probabilities;  // (pixels, classes); null: nobody asked
  std::int64_t pixels;
  int c_in, c_packed, classes;
  bool relu, sigmoid;  // sigmoid: else softmax
  DType dtype;         // f32, bf16 or f16
};

void head_cuda(const HeadArgs& args, CudaStream stream);

}  // namespace tessera
