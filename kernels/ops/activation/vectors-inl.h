// Activations (formulas.h) of float vectors, each within 6 ULP of values of order one. NaN stays
// NaN.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
#if defined(TESSERA_KERNELS_ACTIVATION_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_ACTIVATION_VECTORS_INL_H_
#undef TESSERA_KERNELS_ACTIVATION_VECTORS_INL_H_
#else
#define TESSERA_KERNELS_ACTIVATION_VECTORS_INL_H_
#endif

#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/activation/activation.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

HWY_INLINE FloatVector all_lanes(double value) {
  return hn::Set(FloatTag(), static_cast<float>(value));
}

HWY_INLINE FloatVector clamp(FloatVector x, double least, double most) {
  const FloatVector low = all_lanes(least), high = all_lanes(most);
  return hn::IfThenElse(hn::Lt(x, low), low, hn::IfThenElse(hn::Gt(x, high), high, x));
}

// clip(gain x + offset, 0, 1)
HWY_INLINE FloatVector hard_sigmoid(FloatVector x, double gain, double offset) {
  return clamp(hn::MulAdd(x, all_lanes(gain), all_lanes(offset)), 0, 1);
}

HWY_INLINE FloatVector sloped(FloatVector x, FloatVector slope) {
  return hn::IfThenElse(hn::Lt(x, hn::Zero(FloatTag())), hn::Mul(slope, x), x);
}

// e^x - 1 for x <= 0. NaN must not reach Highway's conversion to an integer.
HWY_INLINE FloatVector expm1_nonpositive(FloatVector x) {
  const FloatVector low = all_lanes(-105);
  const FloatVector e = hn::Expm1(FloatTag(), hn::IfThenElse(hn::Ge(x, low), x, low));
  return hn::IfThenElse(hn::IsNaN(x), x, e);
}

HWY_INLINE FloatVector elu(FloatVector x, double alpha) {
  const FloatVector zero = hn::Zero(FloatTag());
  const auto negative = hn::Lt(x, zero);
  const FloatVector e = expm1_nonpositive(hn::IfThenElse(negative, x, zero));
  return hn::IfThenElse(negative, hn::Mul(all_lanes(alpha), e), x);
}

// tanh |x| = -t / (t + 2), t = e^-2|x| - 1
HWY_INLINE FloatVector tanh(FloatVector x) {
  const FloatVector t = expm1_nonpositive(hn::Mul(all_lanes(-2), hn::Abs(x)));
  return hn::CopySign(hn::Div(t, hn::Add(t, all_lanes(2))), x);
}

// ln(1 + e^x)
HWY_INLINE FloatVector softplus(FloatVector x) {
  const FloatVector e = exp_nonpositive(hn::Neg(hn::Abs(x)));
  const FloatVector tail = hn::Log1p(FloatTag(), hn::IfThenElse(hn::IsNaN(e), all_lanes(0), e));
  return hn::Add(relu(x), tail);
}

// erfc(x): for x >= 0 t e^(P(t) - x^2), t = 1 / (1 + x / 2), with Chebyshev's P of Press et al.,
// Numerical Recipes, section 6.2, which is within 1.2e-7 of it, relative; erfc(-x) = 2 - erfc(x).
HWY_INLINE FloatVector erfc(FloatVector x) {
  constexpr double kP[] = {0.17087277,  -0.82215223, 1.48851587, -1.13520398, 0.27886807,
                           -0.18628806, 0.09678418,  0.37409196, 1.00002368,  -1.26551223};
  const FloatVector z = hn::Abs(x);
  const FloatVector t = hn::Div(all_lanes(1), hn::MulAdd(all_lanes(0.5), z, all_lanes(1)));
  FloatVector p = all_lanes(kP[0]);
  for (std::size_t i = 1; i < std::size(kP); ++i) p = hn::MulAdd(p, t, all_lanes(kP[i]));
  // Rounding may leave the exponent of x = 0 a little above 0.
  const FloatVector exponent = clamp(hn::NegMulAdd(z, z, p), -105, 0);
  const FloatVector y = hn::Mul(t, exp_nonpositive(exponent));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(FloatTag())), hn::Sub(all_lanes(2), y), y);
}

// Calls use(function): function(slopes, v) is the activation of v, whose channels have the slopes
// of leaky_relu or prelu that begin at `slopes`.
template <class Use>
HWY_INLINE void with_activation(const Activation& op, const Use& use) {
  using V = FloatVector;
  switch (op.kind) {
    case Activation::Kind::kRelu:
      return use([](const float*, V v) HWY_ATTR { return relu(v); });
    case Activation::Kind::kSigmoid:
      return use([](const float*, V v) HWY_ATTR { return sigmoid(v); });
    case Activation::Kind::kLeakyRelu:
    case Activation::Kind::kPrelu:
      return use([](const float* slopes, V v) HWY_ATTR { return sloped(v, load(slopes)); });
    case Activation::Kind::kElu:
      return use([&](const float*, V v) HWY_ATTR { return elu(v, op.alpha); });
    case Activation::Kind::kSelu:
      return use([](const float*, V v) HWY_ATTR {
        return hn::Mul(all_lanes(1.0507009873554805), elu(v, 1.6732632423543772));
      });
    case Activation::Kind::kSilu:
      return use([](const float*, V v) HWY_ATTR { return hn::Mul(v, sigmoid(v)); });
    case Activation::Kind::kGelu:
      return use([](const float*, V v) HWY_ATTR {
        return hn::Mul(hn::Mul(v, all_lanes(0.5)),
                       erfc(hn::Mul(v, all_lanes(-0.7071067811865476))));
      });
    case Activation::Kind::kGeluTanh:  // (1 + tanh u) / 2 = sigmoid(2 u)
      return use([](const float*, V v) HWY_ATTR {
        const V cubed = hn::Mul(hn::Mul(v, v), v);
        const V u = hn::MulAdd(cubed, all_lanes(0.044715), v);
        return hn::Mul(v, sigmoid(hn::Mul(all_lanes(2 * 0.7978845608028654), u)));
      });
    case Activation::Kind::kTanh:
      return use([](const float*, V v) HWY_ATTR { return tanh(v); });
    case Activation::Kind::kHardSigmoid:
      return use([&](const float*, V v) HWY_ATTR { return hard_sigmoid(v, op.gain, op.offset); });
    case Activation::Kind::kHardSwish:
      return use([](const float*, V v)
                     HWY_ATTR { return hn::Mul(v, hard_sigmoid(v, 1.0 / 6, 0.5)); });
    case Activation::Kind::kSoftplus:
      return use([](const float*, V v) HWY_ATTR { return softplus(v); });
    case Activation::Kind::kClip:
      return use([&](const float*, V v) HWY_ATTR { return clamp(v, op.min, op.max); });
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
