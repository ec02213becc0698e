// Activations on the GPU. NaN stays NaN in all of them.
#pragma once

#include "kernels/cuda/classes.cuh"
#include "kernels/ops/activation/curve.h"

namespace tessera {

// `slope` is that of the channel.
__device__ inline float apply_curve(const ActivationCurve& f, float x, float slope) {
  constexpr float kHalfRoot = 0.70710678118654752f;       // sqrt(1 / 2)
  constexpr float kRootOf2OverPi = 0.79788456080286536f;  // sqrt(2 / pi)
  const auto clamp = [](float y, float least, float most) {
    return y < least ? least : y > most ? most : y;
  };
  switch (f.curve) {
    case Curve::kRelu:
      return relu(x);
    case Curve::kLeaky:
    case Curve::kPrelu:
      return x < 0.0f ? slope * x : x;
    case Curve::kElu:
      return f.b * (x < 0.0f ? f.a * expm1f(x) : x);
    case Curve::kSigmoid:
      return sigmoid(x);
    case Curve::kSilu:
      return x * sigmoid(x);
    case Curve::kGelu:
      return 0.5f * x * erfcf(-kHalfRoot * x);  // erfc keeps the digits of its tail
    case Curve::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(kRootOf2OverPi * (x + 0.044715f * x * x * x)));
    case Curve::kTanh:
      return tanhf(x);
    case Curve::kHardSigmoid:
      return clamp(fmaf(f.a, x, f.b), 0.0f, 1.0f);
    case Curve::kHardSwish:
      return x * clamp(fmaf(x, 1.0f / 6.0f, 0.5f), 0.0f, 1.0f);
    case Curve::kSoftplus:
      return (x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x)));
    case Curve::kClip:
      return clamp(x, f.a, f.b);
    default:
      return x;
  }
}

// kCount neighbouring channels from `channel` on, in place.
template <int kCount>
__device__ inline void activate(const ActivationCurve& f, int channel, float (&y)[kCount]) {
  if (f.curve == Curve::kNone) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    y[k] = apply_curve(f, y[k], f.curve == Curve::kPrelu ? f.slopes[channel + k] : f.a);
}

}  // namespace tessera
