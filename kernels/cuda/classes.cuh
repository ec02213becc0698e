// What turns logits into probabilities and class ids, for the operators that end a network.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/cuda/kernel.h"

namespace tessera {

constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr int kWarp = 32;

// 1 / x for x of at least 1, within 1 ULP: an approximation and one step of Newton's. The operator
// `/` would call a subroutine for results that are not normal numbers, and a call among many live
// registers spills some. A quarter of x keeps the approximation normal; infinity gives 0.
__device__ inline float reciprocal(float x) {
  constexpr float kQuarter = 0.25f;
  const float part = kQuarter * x;
  const float guess = ptx::rcp_approx(part);
  const float better = fmaf(guess, fmaf(-part, guess, 1.0f), guess);
  return x > FLT_MAX ? 0.0f : kQuarter * better;
}

// Within 3 ULP: the exponential and the reciprocal 1, the sum half an ULP. NaN stays NaN.
__device__ inline float sigmoid(float x) {
  return reciprocal(1.0f + expf(-x));
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
