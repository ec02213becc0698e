#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/device/cpu/peaks.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "engine/device/cpu/peaks.h"
#include "engine/device/machine.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/step.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// `rounds` of fused multiply-adds that wait for nothing but themselves; returns the FLOPs.
double FmaLoop(std::int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  constexpr int kChains = 12;  // more than latency times units of any core; fits 16 registers
  hn::Vec<decltype(d)> sum[kChains];
  for (auto& s : sum) s = hn::Zero(d);
  const auto x = hn::Set(d, *sink), y = hn::Set(d, 0.5f);
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (auto& s : sum) s = hn::MulAdd(s, y, x);
  }
  for (const auto& s : sum) *sink += hn::GetLane(s);
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

// a = b + s * c, past the caches, so that writing costs one stream and not two.
void Triad(const float* b, const float* c, std::size_t count, float* a) {
  const hn::ScalableTag<float> d;
  const auto s = hn::Set(d, 0.5f);
  for (std::size_t i = 0; i + hn::Lanes(d) <= count; i += hn::Lanes(d))
    hn::Stream(hn::MulAdd(s, hn::Load(d, c + i), hn::Load(d, b + i)), d, a + i);
  hwy::FlushStream();
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(FmaLoop);
HWY_EXPORT(Triad);

namespace {

constexpr int kRepeats = 15;  // the best counts: a neighbour can only slow a run down

double seconds_of(const auto& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) double bf16_loop(std::int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  __m512 sum[kChains];
  for (__m512& s : sum) s = _mm512_setzero_ps();
  const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(*sink), _mm512_set1_ps(*sink));
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (__m512& s : sum) s = _mm512_dpbf16_ps(s, x, x);
    asm volatile("" : : : "memory");  // keeps the loop from being folded
  }
  for (const __m512& s : sum) *sink += _mm512_cvtss_f32(s);
  constexpr double kProducts = 32;  // of one instruction
  return 2.0 * kChains * kProducts * static_cast<double>(rounds);
}
#else
double bf16_loop(std::int64_t, float*) {
  return 0;
}
#endif

// FLOP/s of all threads together.
double flops_of(int threads, double (*loop)(std::int64_t, float*)) {
  constexpr std::int64_t kRounds = 1'000'000;
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::vector<double> flops(static_cast<std::size_t>(threads));
    const double seconds = seconds_of([&] {
      parallel_for(threads, threads, [&](std::int64_t i) {
        float sink = 1e-3f;
        flops[static_cast<std::size_t>(i)] = loop(kRounds, &sink);
      });
    });
    best = std::max(best, std::reduce(flops.begin(), flops.end()) / seconds);
  }
  return best;
}

double measured_bandwidth(int threads) {
  constexpr std::size_t kFloats = std::size_t{16} << 20;  // 64 MiB each: more than most caches
  constexpr std::size_t kChunk = std::size_t{1} << 14;
  const AlignedBuffer memory[3] = {AlignedBuffer(kFloats * 4), AlignedBuffer(kFloats * 4),
                                   AlignedBuffer(kFloats * 4)};
  float* at[3];
  for (int i = 0; i < 3; ++i) {
    std::memset(memory[i].get(), 0, kFloats * 4);
    at[i] = reinterpret_cast<float*>(memory[i].get());
  }
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const double seconds = seconds_of([&] {
      parallel_for(threads, kFloats / kChunk, [&](std::int64_t i) {
        const std::size_t from = static_cast<std::size_t>(i) * kChunk;
        HWY_DYNAMIC_DISPATCH(Triad)(at[1] + from, at[2] + from, kChunk, at[0] + from);
      });
    });
    best = std::max(best, 3.0 * 4.0 * static_cast<double>(kFloats) / seconds);
  }
  return best;
}

}  // namespace

Peaks measure_cpu_peaks(int threads) {
  const auto f32 = [](std::int64_t rounds, float* sink) {
    return HWY_DYNAMIC_DISPATCH(FmaLoop)(rounds, sink);
  };
  Peaks peaks;
  peaks.f32 = flops_of(threads, f32);
  if (gemm_bf16_supported()) peaks.bf16 = flops_of(threads, bf16_loop);
  peaks.bandwidth = measured_bandwidth(threads);
  return peaks;
}

}  // namespace tessera
#endif
