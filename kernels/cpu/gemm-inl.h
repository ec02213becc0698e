// Matrix product for the CPU kernels: C (rows, n) = start + A (rows, k) B (k, n), f32, B packed
// once.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// B is cut into panels of kGemmVectors SIMD vectors of columns, stored [k][columns], so the
// innermost loop reads them as a stream. A tile of kGemmRows x kGemmVectors accumulators lives in
// registers (24 of the 32 of AVX-512, 12 of the 16 of AVX2). Each element of C is one chain of
// fused multiply-adds in the order of k: its bytes do not depend on how rows or columns are
// grouped. oneDNN's matmul was measured first: 34-85 GFLOP/s on Winograd's products, against 225 of
// its own convolution (Zen 4, 2 threads).
#if defined(TESSERA_KERNELS_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_GEMM_INL_H_
#undef TESSERA_KERNELS_CPU_GEMM_INL_H_
#else
#define TESSERA_KERNELS_CPU_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kLanes = HWY_LANES(float);
inline constexpr std::size_t kGemmRows = 6;
inline constexpr std::size_t kGemmVectors = HWY_MAX_BYTES >= 64 ? 4 : 2;
inline constexpr std::size_t kGemmPanel = kGemmVectors * kLanes;

// Columns of a packed matrix of `n`: rounded up to whole vectors, zero-filled.
inline std::size_t gemm_columns(std::size_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

// Floats that `gemm_pack` writes.
inline std::size_t gemm_packed_size(std::size_t k, std::size_t n) {
  return k * gemm_columns(n);
}

// Packs B, where element (row, column) is at(row, column).
template <class At>
void gemm_pack(std::size_t k, std::size_t n, const At& at, float* packed) {
  const std::size_t columns = gemm_columns(n);
  for (std::size_t first = 0; first < columns; first += kGemmPanel) {
    const std::size_t width = std::min(kGemmPanel, columns - first);
    for (std::size_t row = 0; row < k; ++row) {
      for (std::size_t j = 0; j < width; ++j) *packed++ = first + j < n ? at(row, first + j) : 0.0f;
    }
  }
}

// R rows of C times one panel of V vectors. `start` (columns of this panel; may be null = 0) is
// what the accumulators begin with; with `accumulate` they begin with C instead. The last vector
// stores `last` of its lanes.
template <std::size_t R, std::size_t V>
HWY_INLINE void gemm_tile(const float* HWY_RESTRICT a, std::size_t lda,
                          const float* HWY_RESTRICT panel, std::size_t k,
                          const float* HWY_RESTRICT start, bool accumulate, float* c,
                          std::size_t ldc, std::size_t last) {
  const FloatTag d;
  FloatVector sum[R][V];
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v < V; ++v) {
      if (accumulate) {
        sum[r][v] = v + 1 == V && last < kLanes ? load_first(c + r * ldc + v * kLanes, last)
                                                : hn::LoadU(d, c + r * ldc + v * kLanes);
      } else {
        sum[r][v] = start != nullptr ? hn::LoadU(d, start + v * kLanes) : hn::Zero(d);
      }
    }
  }
  for (std::size_t i = 0; i < k; ++i) {
    FloatVector b[V];
    for (std::size_t v = 0; v < V; ++v) b[v] = hn::LoadU(d, panel + (i * V + v) * kLanes);
    for (std::size_t r = 0; r < R; ++r) {
      const FloatVector x = hn::Set(d, a[r * lda + i]);
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(x, b[v], sum[r][v]);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v + 1 < V; ++v) hn::StoreU(sum[r][v], d, c + r * ldc + v * kLanes);
    float* end = c + r * ldc + (V - 1) * kLanes;
    if (last == kLanes) {
      hn::StoreU(sum[r][V - 1], d, end);
    } else {
      store_first(sum[r][V - 1], end, last);
    }
  }
}

// All rows against one panel of V vectors.
template <std::size_t V>
void gemm_panel(const float* a, std::size_t lda, const float* panel, std::size_t rows,
                std::size_t k, const float* start, bool accumulate, float* c, std::size_t ldc,
                std::size_t last) {
  std::size_t row = 0;
  for (; row + kGemmRows <= rows; row += kGemmRows) {
    gemm_tile<kGemmRows, V>(a + row * lda, lda, panel, k, start, accumulate, c + row * ldc, ldc,
                            last);
  }
  const float* rest = a + row * lda;
  float* out = c + row * ldc;
  switch (rows - row) {
    case 1:
      return gemm_tile<1, V>(rest, lda, panel, k, start, accumulate, out, ldc, last);
    case 2:
      return gemm_tile<2, V>(rest, lda, panel, k, start, accumulate, out, ldc, last);
    case 3:
      return gemm_tile<3, V>(rest, lda, panel, k, start, accumulate, out, ldc, last);
    case 4:
      return gemm_tile<4, V>(rest, lda, panel, k, start, accumulate, out, ldc, last);
    case 5:
      return gemm_tile<5, V>(rest, lda, panel, k, start, accumulate, out, ldc, last);
    default:
      return;
  }
}

// What C begins with.
struct GemmStart {
  const float* row = nullptr;  // added to every row (a bias), gemm_columns(n) floats; null: zeros
  bool accumulate = false;     // C itself instead
};

// C (rows, n; row stride ldc) from A (rows, k; row stride lda) and B as gemm_pack wrote it. Exactly
// n columns are written. Rows of A may overlap (lda < k), as those of a convolution do.
inline void gemm(const float* a, std::size_t lda, const float* packed, std::size_t rows,
                 std::size_t k, std::size_t n, float* c, std::size_t ldc, GemmStart start = {}) {
  for (std::size_t first = 0; first < n; first += kGemmPanel) {
    const std::size_t columns = std::min(kGemmPanel, n - first);
    const std::size_t vectors = (columns + kLanes - 1) / kLanes;
    const std::size_t last = columns - (vectors - 1) * kLanes;
    const float* panel = packed + first * k;
    const float* begin = start.row != nullptr ? start.row + first : nullptr;
    switch (vectors) {
      case 1:
        gemm_panel<1>(a, lda, panel, rows, k, begin, start.accumulate, c + first, ldc, last);
        break;
      case 2:
        gemm_panel<2>(a, lda, panel, rows, k, begin, start.accumulate, c + first, ldc, last);
        break;
      case 3:
        gemm_panel<std::min<std::size_t>(3, kGemmVectors)>(a, lda, panel, rows, k, begin,
                                                           start.accumulate, c + first, ldc, last);
        break;
      default:
        gemm_panel<kGemmVectors>(a, lda, panel, rows, k, begin, start.accumulate, c + first, ldc,
                                 last);
    }
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
