// Matrix product for gradients of weights: C (m, n) += A^T B with A (k, m) and B (k, n), f32, all
// row-major and none packed.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// k runs over pixels or steps, so both operands are read as a stream and used once: packing would
// cost as much as it saves. kTransposedDepth rows of k at a time, of which a panel of B and the six
// columns of A at hand stay in L1; a tile of sums lives in registers. Each element of C is one
// chain of fused multiply-adds in the order of k, wherever it lies in C, and however m and n are
// shared among threads.
#if defined(TESSERA_KERNELS_CPU_GEMM_TRANSPOSED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_CPU_GEMM_TRANSPOSED_INL_H_
#undef TESSERA_KERNELS_CPU_GEMM_TRANSPOSED_INL_H_
#else
#define TESSERA_KERNELS_CPU_GEMM_TRANSPOSED_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

inline constexpr std::size_t kTransposedDepth = 128;

// An operand (k, columns) whose rows are `stride` floats apart; rows may overlap.
struct TransposedOperand {
  const float* first;
  std::size_t stride;
};

// R rows of C times one panel of V vectors, the last of which has `last` lanes.
template <std::size_t R, std::size_t V>
HWY_INLINE void transposed_tile(TransposedOperand a, TransposedOperand b, std::size_t k, float* c,
                                std::size_t ldc, std::size_t last) {
  const FloatTag d;
  FloatVector sum[R][V];
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v + 1 < V; ++v) sum[r][v] = load(c + r * ldc + v * kLanes);
    const float* end = c + r * ldc + (V - 1) * kLanes;
    sum[r][V - 1] = last == kLanes ? load(end) : load_first(end, last);
  }
  const auto step = [&](const FloatVector(&row)[V], const float* HWY_RESTRICT x) HWY_ATTR {
    for (std::size_t r = 0; r < R; ++r) {
      const FloatVector factor = hn::Set(d, x[r]);
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  };
  FloatVector row[V];
  if (last == kLanes) {
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t v = 0; v < V; ++v) row[v] = load(b.first + i * b.stride + v * kLanes);
      step(row, a.first + i * a.stride);
    }
  } else {
    for (std::size_t i = 0; i < k; ++i) {
      const float* from = b.first + i * b.stride;
      for (std::size_t v = 0; v + 1 < V; ++v) row[v] = load(from + v * kLanes);
      row[V - 1] = load_first(from + (V - 1) * kLanes, last);
      step(row, a.first + i * a.stride);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v + 1 < V; ++v) store(sum[r][v], c + r * ldc + v * kLanes);
    float* end = c + r * ldc + (V - 1) * kLanes;
    if (last == kLanes) {
      store(sum[r][V - 1], end);
    } else {
      store_first(sum[r][V - 1], end, last);
    }
  }
}

// All rows of C against one panel. A narrow panel takes more rows at once, so that enough
// independent sums hide the latency of a multiply-add.
template <std::size_t V>
void transposed_panel(TransposedOperand a, TransposedOperand b, std::size_t k, std::size_t m,
                      float* c, std::size_t ldc, std::size_t last) {
  constexpr std::size_t kRows = V == 1 ? 2 * kGemmRows : kGemmRows;
  std::size_t row = 0;
  const auto at = [&] { return TransposedOperand{a.first + row, a.stride}; };
  for (; row + kRows <= m; row += kRows)
    transposed_tile<kRows, V>(at(), b, k, c + row * ldc, ldc, last);
  if (kRows > kGemmRows && row + kGemmRows <= m) {
    transposed_tile<kGemmRows, V>(at(), b, k, c + row * ldc, ldc, last);
    row += kGemmRows;
  }
  float* out = c + row * ldc;
  switch (m - row) {
    case 1:
      return transposed_tile<1, V>(at(), b, k, out, ldc, last);
    case 2:
      return transposed_tile<2, V>(at(), b, k, out, ldc, last);
    case 3:
      return transposed_tile<3, V>(at(), b, k, out, ldc, last);
    case 4:
      return transposed_tile<4, V>(at(), b, k, out, ldc, last);
    case 5:
      return transposed_tile<5, V>(at(), b, k, out, ldc, last);
    default:
      return;
  }
}

// C (m, n; row stride ldc) += A^T B.
inline void gemm_transposed(TransposedOperand a, TransposedOperand b, std::size_t k, std::size_t m,
                            std::size_t n, float* c, std::size_t ldc) {
  for (std::size_t done = 0; done < k; done += kTransposedDepth) {
    const std::size_t depth = std::min(kTransposedDepth, k - done);
    const TransposedOperand from{a.first + done * a.stride, a.stride};
    for (std::size_t first = 0; first < n; first += kGemmPanel) {
      const TransposedOperand panel{b.first + done * b.stride + first, b.stride};
      const std::size_t columns = std::min(kGemmPanel, n - first);
      const std::size_t vectors = (columns + kLanes - 1) / kLanes;
      const std::size_t last = columns - (vectors - 1) * kLanes;
      switch (vectors) {
        case 1:
          transposed_panel<1>(from, panel, depth, m, c + first, ldc, last);
          break;
        case 2:
          transposed_panel<2>(from, panel, depth, m, c + first, ldc, last);
          break;
        case 3:
          transposed_panel<std::min<std::size_t>(3, kGemmVectors)>(from, panel, depth, m, c + first,
                                                                   ldc, last);
          break;
        default:
          transposed_panel<kGemmVectors>(from, panel, depth, m, c + first, ldc, last);
      }
    }
  }
}

// sums (n) += the rows of x (k, n), in order.
inline void add_rows(TransposedOperand x, std::size_t k, std::size_t n, float* sums) {
  for (std::size_t c = 0; c < n; c += kLanes) {
    const std::size_t lanes = std::min(kLanes, n - c);
    const bool whole = lanes == kLanes;
    FloatVector sum = whole ? load(sums + c) : load_first(sums + c, lanes);
    for (std::size_t i = 0; i < k; ++i) {
      const float* from = x.first + i * x.stride + c;
      sum = hn::Add(sum, whole ? load(from) : load_first(from, lanes));
    }
    store_first(sum, sums + c, lanes);
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
