// An activation as kernels are told of it, and what they may add and activate on the way to y.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace tessera {

// Formulas: formulas.h, with the attributes a and b; of prelu a slope for each channel.
enum class Curve : std::uint8_t {
  kNone,
  kRelu,
  kLeaky,  // a: the slope
  kPrelu,
  kElu,  // b (x < 0 ? a (e^x - 1) : x)
  kSigmoid,
  kSilu,
  kGelu,
  kGeluTanh,
  kTanh,
  kHardSigmoid,  // a x + b within 0 .. 1
  kHardSwish,
  kSoftplus,
  kClip  // a .. b
};

struct ActivationCurve {
  Curve curve = Curve::kNone;
  float a = 0, b = 0;
  const float* slopes = nullptr;  // of prelu: (c)
};

// A map that is added to y's pixel (n, i, j): its own pixel n image + i pitch + j + origin.
struct Residual {
  const void* x = nullptr;  // (..., c) of y's type; null: none
  std::int64_t image = 0, pitch = 0, origin = 0;
};

}  // namespace tessera
