// What turns logits into probabilities and class ids, for the operators that end a network.
#pragma once

#include <cmath>

#include "kernels/simt/simt.h"

namespace tessera {

constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr int kWarp = 32;

// Within 3 ULP: the exponential 1, the sum and the quotient half an ULP each. NaN stays NaN.
__device__ inline float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

// NaN stays NaN.
__device__ inline float relu(float x) {
  return x < 0.0f ? 0.0f : x;
}

// A candidate for the largest of several values, which NaN never is; of equals the first wins.
struct Best {
  float value;
  int index;
};

__device__ inline bool exceeds(float value, float largest) {
  return value > largest || (largest != largest && value == value);
}

// The winner of all lanes' candidates, the same in every lane.
__device__ inline Best best_of_warp(Best best) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Best other = {__shfl_xor_sync(kWholeWarp, best.value, distance),
                        __shfl_xor_sync(kWholeWarp, best.index, distance)};
    const bool equal = !exceeds(best.value, other.value) && !exceeds(other.value, best.value);
    if (exceeds(other.value, best.value) || (equal && other.index < best.index)) best = other;
  }
  return best;
}

// NaN is passed over, as by fmax.
__device__ inline float max_of_warp(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, distance));
  return value;
}

// In one fixed order, the same in every lane.
__device__ inline float sum_of_warp(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

}  // namespace tessera
