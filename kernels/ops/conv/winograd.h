// Sizes of Winograd's F(4x4, 3x3) on the CPU.
#pragma once

#include <cstddef>

#include "kernels/ops/conv/conv.h"

namespace tessera {

inline constexpr std::int64_t kTile = kWinogradTile;  // outputs
inline constexpr std::int64_t kWindow = kTile + 2;    // inputs
inline constexpr std::size_t kFrequencies = kWindow * kWindow;
inline constexpr std::size_t kLine = 16;  // floats of a cache line, and of the widest vector

}  // namespace tessera
