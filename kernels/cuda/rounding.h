// How the operands of a product, f32 in memory, are rounded before they are multiplied.
#pragma once

#include <cstdint>

namespace tessera {

enum class Rounding : std::uint8_t { kNone, kTF32, kBF16, kF16 };

}  // namespace tessera
