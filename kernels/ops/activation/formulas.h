// The formula of each activation: what the reference computes, and the CPU path where it has no
// vectors for the kind. NaN stays NaN in all of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/ops/activation/activation.h"

namespace tessera {

// y of `x`; `learned` is the slope that prelu learned for its channel.
inline double activate(const Activation& op, double x, double learned) {
  // Klambauer et al. 2017, appendix A: mean 0 and variance 1 are a fixed point.
  constexpr double kSeluScale = 1.0507009873554804934, kSeluAlpha = 1.6732632423543772848;
  const auto elu = [x](double alpha) { return x < 0 ? alpha * std::expm1(x) : x; };
  // std::clamp keeps NaN, since it compares false with both ends.
  const auto hard = [x](double gain, double offset) {
    return std::clamp(gain * x + offset, 0.0, 1.0);
  };
  switch (op.kind) {
    case Activation::Kind::kRelu:
      return x < 0 ? 0 : x;
    case Activation::Kind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::Kind::kLeakyRelu:
      return x < 0 ? op.slope * x : x;
    case Activation::Kind::kPrelu:  // He et al. 2015
      return x < 0 ? learned * x : x;
    case Activation::Kind::kElu:  // Clevert et al. 2015
      return elu(op.alpha);
    case Activation::Kind::kSelu:
      return kSeluScale * elu(kSeluAlpha);
    case Activation::Kind::kSilu:  // also called swish
      return x / (1 + std::exp(-x));
    case Activation::Kind::kGelu:  // Hendrycks & Gimpel 2016: x times the normal distribution;
      return x / 2 * std::erfc(-x / std::numbers::sqrt2);  // erfc keeps the digits of its tail
    case Activation::Kind::kGeluTanh:
      return x / 2 *
             (1 + std::tanh(std::numbers::sqrt2 * std::numbers::inv_sqrtpi *
                            (x + 0.044715 * x * x * x)));
    case Activation::Kind::kTanh:
      return std::tanh(x);
    case Activation::Kind::kHardSigmoid:
      return hard(op.gain, op.offset);
    case Activation::Kind::kHardSwish:  // Howard et al. 2019
      return x * hard(1.0 / 6, 0.5);
    case Activation::Kind::kSoftplus:  // ln(1 + e^x), which must not overflow
      return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
    case Activation::Kind::kClip:
      return std::clamp(x, op.min, op.max);
  }
  return x;
}

}  // namespace tessera
