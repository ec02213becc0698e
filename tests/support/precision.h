// What products are rounded to on a GPU, in the tests of operators on f32 tensors.
#pragma once

#include <span>

#include "kernels/cuda/step.h"

namespace tessera::test {

struct Precision {
  const char* name;
  CudaMath math;
  double unit;  // relative error of a rounded operand
};

inline constexpr Precision kPrecisions[] = {{"f32", CudaMath::kF32, 0},
                                            {"tf32", CudaMath::kTF32, 0x1p-11},
                                            {"bf16", CudaMath::kBF16, 0x1p-8},
                                            {"f16", CudaMath::kF16, 0x1p-11}};
inline constexpr Precision kExact = kPrecisions[0];
inline constexpr std::span<const Precision> kRounded = std::span(kPrecisions).subspan(1);

}  // namespace tessera::test
