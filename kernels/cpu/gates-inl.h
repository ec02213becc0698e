// tanh and sigmoid for the gates of recurrent layers and for attention.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// Both rest on e^x = 2^n (1 + p), n = round(x / ln 2), p = e^r - 1, |r| <= ln(2) / 2, where p is
// r + r^2 q(r) with q of degree 4 through Chebyshev's nodes: 2.7e-8 (0.44 x 2^-24) relative to
// e^r - 1. Keeping e^x - 1 as 2^n p + (2^n - 1) keeps tanh's relative accuracy near 0.
// Bounds (tests/kernels/gates_test.cpp): 4 ULP for tanh everywhere and for sigmoid above -87;
// below, sigmoid is 1.6e-38, within that of the truth. NaN stays NaN. Highway's Tanh and Exp were
// tried first: twice the instructions, and its Exp turns NaN into 0.
#if defined(TESSERA_KERNELS_CPU_GATES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_GATES_INL_H_
#undef TESSERA_KERNELS_CPU_GATES_INL_H_
#else
#define TESSERA_KERNELS_CPU_GATES_INL_H_
#endif

#include <cstdint>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// `x` between the limits; NaN passes. x86's minimum and maximum give their second operand if one is
// NaN; those of other targets may not, but a comparison with NaN is false on all.
HWY_INLINE FloatVector clip(FloatVector x, float low, float high) {
  const FloatVector lo = hn::Set(FloatTag(), low), hi = hn::Set(FloatTag(), high);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
  return hn::Min(hi, hn::Max(lo, x));
#else
  x = hn::IfThenElse(hn::Lt(x, lo), lo, x);
  return hn::IfThenElse(hn::Gt(x, hi), hi, x);
#endif
}

// e^x = scale (1 + fraction).
struct Exponential {
  FloatVector scale;     // 2^n
  FloatVector fraction;  // e^r - 1
};

// For |x| <= 87: 2^n is a normal number.
HWY_INLINE Exponential exponential(FloatVector x) {
  const FloatTag f;
  const hn::RebindToSigned<FloatTag> i;
  // Adding 1.5 x 2^23 rounds to an integer and leaves it in the low bits of the sum.
  const FloatVector magic = hn::Set(f, 0x1.8p23f);
  const FloatVector sum = hn::MulAdd(x, hn::Set(f, 1.44269504f), magic);
  const FloatVector n = hn::Sub(sum, magic);
  // ln 2 in two parts; the first has 9 bits, so that n times it is exact.
  const FloatVector near = hn::NegMulAdd(n, hn::Set(f, 0.693359375f), x);
  const FloatVector r = hn::NegMulAdd(n, hn::Set(f, -2.12194440e-4f), near);
  FloatVector q = hn::Set(f, 0.00139269268f);
  q = hn::MulAdd(q, r, hn::Set(f, 0.00836377405f));
  q = hn::MulAdd(q, r, hn::Set(f, 0.0416665487f));
  q = hn::MulAdd(q, r, hn::Set(f, 0.166665733f));
  q = hn::MulAdd(q, r, hn::Set(f, 0.5f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(i, sum));
  const auto one = hn::Set(i, std::int32_t{0x3f800000});
  return {hn::BitCast(f, hn::Add(exponent, one)), hn::MulAdd(hn::Mul(r, r), q, r)};
}

// 1 / (1 + e^-x).
HWY_INLINE FloatVector gate_sigmoid(FloatVector x) {
  const FloatVector one = hn::Set(FloatTag(), 1.0f);
  const Exponential e = exponential(clip(hn::Neg(x), -87.0f, 87.0f));
  return hn::Div(one, hn::Add(hn::MulAdd(e.scale, e.fraction, e.scale), one));
}

// (e^2x - 1) / (e^2x + 1). Beyond 9.1 the nearest f32 is 1.
HWY_INLINE FloatVector gate_tanh(FloatVector x) {
  const FloatTag f;
  x = clip(x, -9.1f, 9.1f);
  const Exponential e = exponential(hn::Add(x, x));
  const FloatVector minus_one = hn::MulAdd(e.scale, e.fraction, hn::Sub(e.scale, hn::Set(f, 1.0f)));
  return hn::Div(minus_one, hn::Add(minus_one, hn::Set(f, 2.0f)));
}

// clip(0.2 x + 0.5, 0, 1), as Keras <= 2.2 has it.
HWY_INLINE FloatVector gate_hard_sigmoid(FloatVector x) {
  const FloatTag f;
  return clip(hn::MulAdd(x, hn::Set(f, 0.2f), hn::Set(f, 0.5f)), 0.0f, 1.0f);
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
