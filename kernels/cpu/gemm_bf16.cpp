#include "kernels/cpu/gemm_bf16.h"

#include <hwy/targets.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera {

namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kRows = 6, kVectors = 4;  // 24 of 32 registers accumulate
constexpr std::size_t kPanel = kVectors * kLanes;

}  // namespace

std::size_t gemm_bf16_columns(std::size_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

std::size_t gemm_bf16_packed_size(std::size_t k, std::size_t n) {
  return k * gemm_bf16_columns(n);
}

void gemm_bf16_pack(std::size_t k, std::size_t n,
                    const std::function<float(std::size_t, std::size_t)>& at,
                    std::uint16_t* packed) {
  const std::size_t columns = gemm_bf16_columns(n);
  for (std::size_t first = 0; first < columns; first += kPanel) {
    const std::size_t end = std::min(first + kPanel, columns);
    for (std::size_t row = 0; row < k; row += 2) {
      for (std::size_t column = first; column < end; ++column) {
        for (std::size_t half = 0; half < 2; ++half)
          *packed++ = f32_to_bf16(column < n ? at(row + half, column) : 0.0f);
      }
    }
  }
}

#if defined(__x86_64__)

#define TESSERA_BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

namespace {

template <std::size_t R, std::size_t V>
TESSERA_BF16_TARGET void tile(const std::uint16_t* a, std::size_t lda, const std::uint16_t* panel,
                              std::size_t k, float* c, std::size_t ldc, const float* start) {
  __m512 sum[R][V];
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v < V; ++v)
      sum[r][v] = _mm512_loadu_ps((start != nullptr ? start : c + r * ldc) + v * kLanes);
  }
  for (std::size_t pair = 0; pair < k; pair += 2) {
    __m512bh b[V];
    for (std::size_t v = 0; v < V; ++v)
      b[v] = (__m512bh)_mm512_loadu_si512(panel + (pair * V + 2 * v) * kLanes);
    for (std::size_t r = 0; r < R; ++r) {
      std::int32_t two;
      std::memcpy(&two, a + r * lda + pair, sizeof(two));
      const __m512bh x = (__m512bh)_mm512_set1_epi32(two);
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, b[v]);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v < V; ++v) _mm512_storeu_ps(c + r * ldc + v * kLanes, sum[r][v]);
  }
}

template <std::size_t V>
void panel_rows(const std::uint16_t* a, std::size_t lda, const std::uint16_t* panel,
                std::size_t rows, std::size_t k, float* c, std::size_t ldc, const float* start) {
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    tile<kRows, V>(a + row * lda, lda, panel, k, c + row * ldc, ldc, start);
  const std::uint16_t* rest = a + row * lda;
  float* out = c + row * ldc;
  switch (rows - row) {
    case 1:
      return tile<1, V>(rest, lda, panel, k, out, ldc, start);
    case 2:
      return tile<2, V>(rest, lda, panel, k, out, ldc, start);
    case 3:
      return tile<3, V>(rest, lda, panel, k, out, ldc, start);
    case 4:
      return tile<4, V>(rest, lda, panel, k, out, ldc, start);
    case 5:
      return tile<5, V>(rest, lda, panel, k, out, ldc, start);
    default:
      return;
  }
}

}  // namespace

bool gemm_bf16_supported() {
  static const bool cpu_has =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
  // Whoever restricts Highway to older instructions, as tests do, restricts this too.
  return cpu_has && (hwy::SupportedTargets() & HWY_AVX3) != 0;
}

void gemm_bf16(const std::uint16_t* a, std::size_t lda, const std::uint16_t* packed,
               std::size_t rows, std::size_t k, std::size_t n, float* c, std::size_t ldc,
               const float* start) {
  for (std::size_t first = 0; first < n; first += kPanel) {
    const std::size_t vectors = (std::min(kPanel, n - first) + kLanes - 1) / kLanes;
    const std::uint16_t* panel = packed + first * k;
    const float* begin = start != nullptr ? start + first : nullptr;
    switch (vectors) {
      case 1:
        panel_rows<1>(a, lda, panel, rows, k, c + first, ldc, begin);
        break;
      case 2:
        panel_rows<2>(a, lda, panel, rows, k, c + first, ldc, begin);
        break;
      case 3:
        panel_rows<3>(a, lda, panel, rows, k, c + first, ldc, begin);
        break;
      default:
        panel_rows<4>(a, lda, panel, rows, k, c + first, ldc, begin);
    }
  }
}

#else

bool gemm_bf16_supported() {
  return false;
}

void gemm_bf16(const std::uint16_t*, std::size_t, const std::uint16_t*, std::size_t, std::size_t,
               std::size_t, float*, std::size_t, const float*) {
  fail("bf16 products need AVX512-BF16, which this CPU lacks; compute in f32 instead");
}

#endif

}  // namespace tessera
