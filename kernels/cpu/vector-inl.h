// Float vectors over f32 or bf16 memory, and the few functions that Highway lacks.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// A kernel computes on f32 vectors whatever the storage: `load` widens bf16, `store` rounds to the
// nearest even once (Highway's own DemoteTo truncates), with the same bits as f32_to_bf16. The
// `_first` forms touch only `count` elements, so a tail never reads or writes past its row.
#if defined(TESSERA_KERNELS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_VECTOR_INL_H_
#undef TESSERA_KERNELS_CPU_VECTOR_INL_H_
#else
#define TESSERA_KERNELS_CPU_VECTOR_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

static_assert(!HWY_HAVE_SCALABLE, "lanes must be a constant: kernels keep vectors in arrays");
inline constexpr std::size_t kFloatLanes = HWY_LANES(float);

HWY_INLINE FloatVector load(const float* p) {
  return hn::LoadU(FloatTag(), p);
}
HWY_INLINE void store(FloatVector v, float* p) {
  hn::StoreU(v, FloatTag(), p);
}

namespace detail {

using Bits16Tag = hn::Rebind<std::uint16_t, FloatTag>;
using Bits16Vector = hn::Vec<Bits16Tag>;

HWY_INLINE FloatVector widen(Bits16Vector bits) {
  const hn::Rebind<std::uint32_t, FloatTag> u32;
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(u32, bits)));
}

HWY_INLINE Bits16Vector narrow(FloatVector v) {
  const hn::Rebind<std::uint32_t, FloatTag> u32;
  const hn::Rebind<std::int32_t, FloatTag> i32;
  const auto bits = hn::BitCast(u32, v);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(u32, 1));
  const auto nearest = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(u32, 0x7fff))));
  const auto quiet_nan = hn::Or(high, hn::Set(u32, 0x40));
  const auto is_nan = hn::RebindMask(u32, hn::IsNaN(v));
  return hn::DemoteTo(Bits16Tag(), hn::BitCast(i32, hn::IfThenElse(is_nan, quiet_nan, nearest)));
}

}  // namespace detail

HWY_INLINE FloatVector load(const hwy::bfloat16_t* p) {
  return detail::widen(hn::LoadU(detail::Bits16Tag(), reinterpret_cast<const std::uint16_t*>(p)));
}

HWY_INLINE void store(FloatVector v, hwy::bfloat16_t* p) {
  hn::StoreU(detail::narrow(v), detail::Bits16Tag(), reinterpret_cast<std::uint16_t*>(p));
}

// `count` < kFloatLanes elements; the other lanes are 0.
template <class T>
HWY_INLINE FloatVector load_first(const T* p, std::size_t count) {
  T padded[kFloatLanes] = {};
  std::memcpy(padded, p, count * sizeof(T));
  return load(padded);
}

// The first `count` <= kFloatLanes lanes.
template <class T>
HWY_INLINE void store_first(FloatVector v, T* p, std::size_t count) {
  T padded[kFloatLanes];
  store(v, padded);
  std::memcpy(p, padded, count * sizeof(T));
}

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
// AVX-512 masks both widths without touching the other lanes, and without the detour.
HWY_INLINE FloatVector load_first(const float* p, std::size_t count) {
  return hn::MaskedLoad(hn::FirstN(FloatTag(), count), FloatTag(), p);
}
HWY_INLINE FloatVector load_first(const hwy::bfloat16_t* p, std::size_t count) {
  const detail::Bits16Tag d;
  return detail::widen(
      hn::MaskedLoad(hn::FirstN(d, count), d, reinterpret_cast<const std::uint16_t*>(p)));
}
HWY_INLINE void store_first(FloatVector v, float* p, std::size_t count) {
  hn::BlendedStore(v, hn::FirstN(FloatTag(), count), FloatTag(), p);
}
HWY_INLINE void store_first(FloatVector v, hwy::bfloat16_t* p, std::size_t count) {
  const detail::Bits16Tag d;
  hn::BlendedStore(detail::narrow(v), hn::FirstN(d, count), d, reinterpret_cast<std::uint16_t*>(p));
}
#endif

// y[i] = f(i, x's vector at i) for all i < count; `f` sees zeros behind the end.
template <class In, class Out, class Function>
HWY_INLINE void map(const In* x, std::size_t count, Out* y, const Function& f) {
  std::size_t i = 0;
  for (; i + kFloatLanes <= count; i += kFloatLanes) store(f(i, load(x + i)), y + i);
  if (i < count) store_first(f(i, load_first(x + i, count - i)), y + i, count - i);
}

// max(x, 0) where NaN stays NaN.
HWY_INLINE FloatVector relu(FloatVector x) {
  const FloatVector zero = hn::Zero(FloatTag());
  return hn::IfThenElse(hn::Lt(x, zero), zero, x);
}

// The larger of two; NaN where either is.
HWY_INLINE FloatVector max_or_nan(FloatVector a, FloatVector b) {
  return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
}

// e^x for x <= 0, within 2 ULP where e^x is a normal number; exp(-inf) = 0, NaN stays NaN. Highway
// splits x = q ln 2 + r, |r| <= ln(2) / 2, and evaluates a polynomial in r; it returns 0 below -104
// and for NaN, which must not reach its conversion of q to an integer.
HWY_INLINE FloatVector exp_nonpositive(FloatVector x) {
  const FloatVector low = hn::Set(FloatTag(), -105.0f);
  const FloatVector e = hn::Exp(FloatTag(), hn::IfThenElse(hn::Ge(x, low), x, low));
  return hn::IfThenElse(hn::IsNaN(x), x, e);
}

// 1 / (1 + e^-x) within 4 ULP: only e^-|x| is taken, so nothing overflows and both tails keep
// their relative accuracy. NaN stays NaN.
HWY_INLINE FloatVector sigmoid(FloatVector x) {
  const FloatVector one = hn::Set(FloatTag(), 1.0f);
  const FloatVector e = exp_nonpositive(hn::Neg(hn::Abs(x)));
  const FloatVector numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(FloatTag())), e, one);
  return hn::Div(numerator, hn::Add(one, e));
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
