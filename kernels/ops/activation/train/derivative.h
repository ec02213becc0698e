// The derivative of each activation (formulas.h): 0 or 1 at a kink as PyTorch has it.
#pragma once

#include "kernels/ops/activation/formulas.h"

namespace tessera {

// f'(x); `learned` is the slope that prelu learned for its channel.
inline double activation_derivative(const Activation& op, double x, double learned) {
  constexpr double kSeluScale = 1.0507009873554804934, kSeluAlpha = 1.6732632423543772848;
  const auto elu = [x](double alpha) { return x < 0 ? alpha * std::exp(x) : 1; };
  const auto sigmoid = [x] { return 1 / (1 + std::exp(-x)); };
  const auto inside = [x](double least, double most) { return x > least && x < most; };
  switch (op.kind) {
    case Activation::Kind::kRelu:
      return x <= 0 ? 0 : 1;
    case Activation::Kind::kSigmoid:
      return sigmoid() * (1 - sigmoid());
    case Activation::Kind::kLeakyRelu:
      return x < 0 ? op.slope : 1;
    case Activation::Kind::kPrelu:
      return x < 0 ? learned : 1;
    case Activation::Kind::kElu:
      return elu(op.alpha);
    case Activation::Kind::kSelu:
      return kSeluScale * elu(kSeluAlpha);
    case Activation::Kind::kSilu:
      return sigmoid() * (1 + x * (1 - sigmoid()));
    case Activation::Kind::kGelu: {  // the normal distribution, and x times its density
      constexpr double kDensity = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      return std::erfc(-x / std::numbers::sqrt2) / 2 + x * kDensity * std::exp(-x * x / 2);
    }
    case Activation::Kind::kGeluTanh: {
      constexpr double kScale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi, kCube = 0.044715;
      const double t = std::tanh(kScale * (x + kCube * x * x * x));
      return (1 + t) / 2 + x / 2 * (1 - t * t) * kScale * (1 + 3 * kCube * x * x);
    }
    case Activation::Kind::kTanh:
      return 1 - std::tanh(x) * std::tanh(x);
    case Activation::Kind::kHardSigmoid: {
      const double y = op.gain * x + op.offset;
      return y > 0 && y < 1 ? op.gain : 0;
    }
    case Activation::Kind::kHardSwish:
      return inside(-3, 3) ? x / 3 + 0.5 : x < 0 ? 0 : 1;
    case Activation::Kind::kSoftplus:
      return sigmoid();
    case Activation::Kind::kClip:
      return inside(op.min, op.max) ? 1 : 0;
  }
  return 1;
}

}  // namespace tessera
