// In what types convolutions run on a GPU, and what that may round.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/cuda_check.h"

namespace tessera::test {

// One arithmetic: what x and y are stored as, and what may be rounded before it is multiplied.
struct Arithmetic {
  DType x, y;
  Precision math = Precision::kFp32;
};
inline constexpr Arithmetic kF32{DType::kF32, DType::kF32};
inline constexpr Arithmetic kTF32{DType::kF32, DType::kF32, Precision::kTf32};
inline constexpr Arithmetic kBF16{DType::kBF16, DType::kBF16};
inline constexpr Arithmetic kF16{DType::kF16, DType::kF16};
inline constexpr Arithmetic kF32ToBF16{DType::kF32, DType::kBF16};
inline constexpr Arithmetic kBF16ToF32{DType::kBF16, DType::kF32};
inline const std::vector<Arithmetic> kAll{kF32, kTF32, kBF16, kF16, kF32ToBF16, kBF16ToF32};

inline bool on_tensor_cores(const Arithmetic& a) {
  return a.x != DType::kF32 || a.math != Precision::kFp32;
}

inline std::string to_string(const Arithmetic& a) {
  return fmt::format("{} -> {}, math {}", name_of(a.x), name_of(a.y), static_cast<int>(a.math));
}

// Values that every type of `a` and tf32 hold exactly, so that products are exact in all of them.
inline Tensor narrow(const Tensor& tensor, const Arithmetic& a) {
  const bool f16 = a.x == DType::kF16 || a.y == DType::kF16;
  return tensor.rounded_to(f16 ? DType::kF16 : DType::kBF16).rounded_to(DType::kF32);
}

inline double unit_of(DType dtype) {  // relative, of rounding a result
  return dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-21;
}

// A sum of `terms` exact products of spread `spread`: a chain of f32 additions rounds each partial
// sum, 4 spreads at the most, by 2^-24 of it, like a random walk; a tensor core truncates, by 2^-23
// of it once per 8 products in the worst case, always towards zero. Further sums, of slices, are
// fewer than the 4.
inline double sum_error(double terms, double spread, const Arithmetic& a) {
  return on_tensor_cores(a) ? 4 * spread * 0x1p-23 * (terms / 8 + 4)
                            : 4 * spread * 0x1p-24 * (std::sqrt(terms) + 4);
}

}  // namespace tessera::test
