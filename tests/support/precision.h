// What products are rounded to on a GPU, in the tests of operators on f32 tensors.
#pragma once

#include <span>

#include "kernels/cuda/step.h"

namespace tessera::test {

struct ProductPrecision {
  const char* name;
  Precision math;
  double unit;  // relative error of a rounded operand
};

inline constexpr ProductPrecision kPrecisions[] = {{"f32", Precision::kFp32, 0},
                                                   {"tf32", Precision::kTf32, 0x1p-11},
                                                   {"bf16", Precision::kBf16, 0x1p-8},
                                                   {"f16", Precision::kFp16, 0x1p-11}};
inline constexpr ProductPrecision kExact = kPrecisions[0];
inline constexpr std::span<const ProductPrecision> kRounded = std::span(kPrecisions).subspan(1);

}  // namespace tessera::test
