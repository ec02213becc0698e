// The CUDA path of Linear, which is also the matrix product that other operators launch:
//
//   y[i, j] = sum_k x[source(i), k] w[j, k] + bias[j]
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/precision.h"

namespace tessera {

// Which row of x is the operand of a row of y.
struct RowMap {
  const std::int32_t* ids = nullptr;      // (rows): that row of x, clamped to its rows; else row i
  std::int64_t x_rows = 0;                // of x; used with ids
  const std::int32_t* lengths = nullptr;  // (rows / t): steps past them take no part, if not null
  std::int64_t t = 1;
};

struct GemmArgs {
  const float* x;  // (.., features)
  RowMap map;
  const void* w;      // GemmLayout says how
  const float* bias;  // (units); may be null
  float* y;           // (rows, units); rows that take no part are not written
  std::int64_t rows;
  int features;
  int units;
};

// Where element (unit, feature) of a product's weights lies in memory: of f32 that are multiplied
// exactly, features are rows, so that a tile's neighbouring columns are neighbours; of rounded
// ones, units are rows, as mma takes them. Rows are padded with zeros to 16 bytes.
struct GemmLayout {
  Precision rounding;
  int features, units;

  std::size_t element_bytes() const {
    return rounding == Precision::kFp32 || rounding == Precision::kTf32 ? 4 : 2;
  }
  int pitch() const {  // elements of a row
    const int width = rounding == Precision::kFp32 ? units : features;
    const int whole = static_cast<int>(16 / element_bytes());
    return (width + whole - 1) / whole * whole;
  }
  std::size_t elements() const {
    return static_cast<std::size_t>(rounding == Precision::kFp32 ? features : units) *
           static_cast<std::size_t>(pitch());
  }
  std::size_t at(int unit, int feature) const {
    const int row = rounding == Precision::kFp32 ? feature : unit;
    const int column = rounding == Precision::kFp32 ? unit : feature;
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(pitch()) +
           static_cast<std::size_t>(column);
  }
};

// Rows of y that a block makes. The bytes of y do not depend on it: every element is one sum over
// k in rising order.
enum class GemmRows : std::uint8_t { kFew = 16, kMany = 128 };

// Many rows per block once those blocks fill the device: fewer bytes are loaded per product.
inline GemmRows choose_gemm_rows(std::int64_t rows, int units, int multiprocessors) {
  constexpr std::int64_t kMany = 128, kColumns = 64;
  const std::int64_t blocks = (rows + kMany - 1) / kMany * ((units + kColumns - 1) / kColumns);
  return blocks >= multiprocessors ? GemmRows::kMany : GemmRows::kFew;
}

void gemm_cuda(const GemmArgs& args, Precision rounding, GemmRows rows, CudaStream stream);

// Its halves: exact products (cuda.cu) and rounded ones (sm80_mma.cu).
void gemm_fma_cuda(const GemmArgs& args, GemmRows rows, CudaStream stream);
void gemm_mma_cuda(const GemmArgs& args, Precision rounding, GemmRows rows, CudaStream stream);

// The product of a weight's gradient, whose reduction runs over rows:
//
//   sum[i, j] += sum over rows of a[row, i] b[row, j]
//
// all f32 in memory. Rows are cut into slices that depend on the extents alone; the slices' sums
// are added in order, so equal operands give equal bytes.
struct GemmSumArgs {
  const float* a;                                  // (rows, a_pitch)
  const float* b;                                  // (rows, b_pitch)
  float* sum;                                      // (m, sum_pitch), added to
  void* scratch;                                   // gemm_sum_scratch() bytes
  std::int64_t rows, a_pitch, b_pitch, sum_pitch;  // pitches in elements
  int m, n;
  const std::int32_t* lengths;  // (rows / t): steps past them take no part; null: all do
  std::int64_t t;
  // The rows of b are read so many steps earlier (-1: later) in their sequence, 0 before its
  // beginning: the state before a step of a recurrence. 0: as they are.
  int b_delay;
};

std::size_t gemm_sum_scratch(std::int64_t rows, int m, int n);

void gemm_sum_cuda(const GemmSumArgs& args, Precision rounding, CudaStream stream);

}  // namespace tessera
