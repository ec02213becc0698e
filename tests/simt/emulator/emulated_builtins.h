// CUDA's built-in functions for the host compiler; part of emulated.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

// ---- Barriers, shuffles, votes

SIMT_INLINE void __syncthreads() {
  simt::machine::block_barrier(0, 0, true);
}
SIMT_INLINE int __syncthreads_count(int predicate) {
  return simt::machine::block_barrier_reduce(simt::machine::Predicate::kCount, predicate);
}
SIMT_INLINE int __syncthreads_and(int predicate) {
  return simt::machine::block_barrier_reduce(simt::machine::Predicate::kAnd, predicate);
}
SIMT_INLINE int __syncthreads_or(int predicate) {
  return simt::machine::block_barrier_reduce(simt::machine::Predicate::kOr, predicate);
}
SIMT_INLINE void __syncwarp(unsigned mask = ~0u) {
  simt::machine::warp_barrier(mask);
}

namespace simt {
template <class T>
SIMT_INLINE T shuffle(unsigned mask, machine::Shuffle mode, T value, int argument, int width) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  machine::shuffle(mask, mode, argument, width, &value, sizeof value);
  return value;
}
}  // namespace simt

template <class T>
SIMT_INLINE T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return simt::shuffle(mask, simt::machine::Shuffle::kIndex, value, lane, width);
}
template <class T>
SIMT_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return simt::shuffle(mask, simt::machine::Shuffle::kUp, value, static_cast<int>(delta), width);
}
template <class T>
SIMT_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return simt::shuffle(mask, simt::machine::Shuffle::kDown, value, static_cast<int>(delta), width);
}
template <class T>
SIMT_INLINE T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return simt::shuffle(mask, simt::machine::Shuffle::kXor, value, lanes, width);
}
SIMT_INLINE unsigned __ballot_sync(unsigned mask, int predicate) {
  return simt::machine::vote(mask, simt::machine::Vote::kBallot, predicate);
}
SIMT_INLINE int __any_sync(unsigned mask, int predicate) {
  return static_cast<int>(simt::machine::vote(mask, simt::machine::Vote::kAny, predicate));
}
SIMT_INLINE int __all_sync(unsigned mask, int predicate) {
  return static_cast<int>(simt::machine::vote(mask, simt::machine::Vote::kAll, predicate));
}

#define SIMT_REDUCE(name, op, T)                                                              \
  SIMT_INLINE T name(unsigned mask, T value) {                                                \
    return static_cast<T>(simt::machine::reduce(                                              \
        mask, simt::machine::Reduce::op, std::is_signed_v<T>, static_cast<unsigned>(value))); \
  }
SIMT_REDUCE(__reduce_add_sync, kAdd, unsigned)
SIMT_REDUCE(__reduce_add_sync, kAdd, int)
SIMT_REDUCE(__reduce_min_sync, kMin, unsigned)
SIMT_REDUCE(__reduce_min_sync, kMin, int)
SIMT_REDUCE(__reduce_max_sync, kMax, unsigned)
SIMT_REDUCE(__reduce_max_sync, kMax, int)
SIMT_REDUCE(__reduce_and_sync, kAnd, unsigned)
SIMT_REDUCE(__reduce_or_sync, kOr, unsigned)
SIMT_REDUCE(__reduce_xor_sync, kXor, unsigned)
#undef SIMT_REDUCE

// Which lanes happen to be converged is no property of the program: use the mask of the branch.
unsigned __activemask() = delete;

// ---- Memory

namespace simt {
// Applies `update` to the value at `p` as one atomic step; returns the value before it.
template <class T, class Update>
SIMT_INLINE T atomic_update(T* p, Update update) {
  machine::atomic_access(p, sizeof(T));
  T before;
  machine::atomic_load(p, &before, sizeof(T));
  for (;;) {
    const T after = update(before);
    if (machine::atomic_replace(p, &before, &after, sizeof(T))) return before;
  }
}
}  // namespace simt

template <class T>
SIMT_INLINE T atomicAdd(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return static_cast<T>(old + v); });
}
template <class T>
SIMT_INLINE T atomicSub(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return static_cast<T>(old - v); });
}
template <class T>
SIMT_INLINE T atomicMin(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return v < old ? v : old; });
}
template <class T>
SIMT_INLINE T atomicMax(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return old < v ? v : old; });
}
template <class T>
SIMT_INLINE T atomicAnd(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return static_cast<T>(old & v); });
}
template <class T>
SIMT_INLINE T atomicOr(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return static_cast<T>(old | v); });
}
template <class T>
SIMT_INLINE T atomicExch(T* p, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T) { return v; });
}
template <class T>
SIMT_INLINE T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  return simt::atomic_update(p, [&](T old) { return old == expected ? v : old; });
}
SIMT_INLINE unsigned atomicInc(unsigned* p, unsigned limit) {
  return simt::atomic_update(p, [&](unsigned old) { return old >= limit ? 0 : old + 1; });
}

template <class T>
SIMT_INLINE T __ldg(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE T __ldca(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE T __ldcg(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE T __ldcs(const T* p) {
  return *p;
}
template <class T>
SIMT_INLINE void __stcg(T* p, std::type_identity_t<T> v) {
  *p = v;
}
template <class T>
SIMT_INLINE void __stcs(T* p, std::type_identity_t<T> v) {
  *p = v;
}

SIMT_INLINE void __threadfence() {
  simt::machine::thread_fence();
}
SIMT_INLINE void __threadfence_block() {}
SIMT_INLINE void __nanosleep(unsigned) {
  simt::machine::yield();
}
SIMT_INLINE void __trap() {
  simt::machine::trap("__trap()");
}

// ---- Integers and bits

#define SIMT_MIN_MAX(T)                   \
  SIMT_INLINE constexpr T min(T a, T b) { \
    return b < a ? b : a;                 \
  }                                       \
  SIMT_INLINE constexpr T max(T a, T b) { \
    return a < b ? b : a;                 \
  }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
// As on the device, a NaN gives way to the other operand.
SIMT_INLINE float min(float a, float b) {
  return std::fmin(a, b);
}
SIMT_INLINE float max(float a, float b) {
  return std::fmax(a, b);
}
SIMT_INLINE double min(double a, double b) {
  return std::fmin(a, b);
}
SIMT_INLINE double max(double a, double b) {
  return std::fmax(a, b);
}

SIMT_INLINE int __popc(unsigned x) {
  return std::popcount(x);
}
SIMT_INLINE int __popcll(unsigned long long x) {
  return std::popcount(x);
}
SIMT_INLINE int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
SIMT_INLINE int __ffs(int x) {
  return __builtin_ffs(x);
}
SIMT_INLINE int __mul24(int a, int b) {
  return a * b;
}
SIMT_INLINE unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}
SIMT_INLINE int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
SIMT_INLINE unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
SIMT_INLINE float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
SIMT_INLINE float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
SIMT_INLINE int __float2int_rn(float x) {
  return static_cast<int>(std::nearbyint(x));
}
SIMT_INLINE int __float2int_rz(float x) {
  return static_cast<int>(x);
}
SIMT_INLINE int __float2int_rd(float x) {
  return static_cast<int>(std::floor(x));
}
SIMT_INLINE int __float2int_ru(float x) {
  return static_cast<int>(std::ceil(x));
}
SIMT_INLINE float __int2float_rn(int x) {
  return static_cast<float>(x);
}
SIMT_INLINE float __uint2float_rn(unsigned x) {
  return static_cast<float>(x);
}

// ---- Floats. The device's fast forms are rounded better here.

SIMT_INLINE float __fadd_rn(float a, float b) {
  return a + b;
}
SIMT_INLINE float __fsub_rn(float a, float b) {
  return a - b;
}
SIMT_INLINE float __fmul_rn(float a, float b) {
  return a * b;
}
SIMT_INLINE float __fdiv_rn(float a, float b) {
  return a / b;
}
SIMT_INLINE float __fdividef(float a, float b) {
  return a / b;
}
SIMT_INLINE float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
SIMT_INLINE float __frcp_rn(float x) {
  return 1.0f / x;
}
SIMT_INLINE float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
SIMT_INLINE float __frsqrt_rn(float x) {
  return 1.0f / std::sqrt(x);
}
namespace simt {
SIMT_INLINE float saturate(float x) {
  return x > 1 ? 1 : x > 0 ? x : 0;
}
}  // namespace simt

// Macros, because the C library declares these names and defines none of them.
#define rsqrtf(x) __frsqrt_rn(x)
#define __saturatef(x) ::simt::saturate(x)
#define __expf(x) ::expf(x)
#define __exp2f(x) ::exp2f(x)
#define __exp10f(x) ::exp10f(x)
#define __logf(x) ::logf(x)
#define __log2f(x) ::log2f(x)
#define __log10f(x) ::log10f(x)
#define __powf(x, y) ::powf(x, y)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)
#define __tanhf(x) ::tanhf(x)

// ---- bf16 and f16: what the vendor's headers leave to the device alone

SIMT_INLINE __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __float2bfloat16_rn(
      std::fma(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
SIMT_INLINE __half __hfma(__half a, __half b, __half c) {
  return __float2half_rn(std::fma(__half2float(a), __half2float(b), __half2float(c)));
}
SIMT_INLINE __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return __halves2bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
SIMT_INLINE __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return __halves2half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
SIMT_INLINE __nv_bfloat162 __hfma2_relu(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return __hmax2(__hfma2(a, b, c), __float2bfloat162_rn(0.0f));
}
SIMT_INLINE __nv_bfloat162 atomicAdd(__nv_bfloat162* p, __nv_bfloat162 v) {
  return simt::atomic_update(p, [&](__nv_bfloat162 old) { return __hadd2(old, v); });
}
SIMT_INLINE __half2 atomicAdd(__half2* p, __half2 v) {
  return simt::atomic_update(p, [&](__half2 old) { return __hadd2(old, v); });
}
