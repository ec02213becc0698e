// Scalar conversions between the storage types and f32. bf16 rounds to nearest even; NaN stays NaN.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace tessera {

inline float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float f16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_f16(float value);  // to nearest even; infinity from 65520 on

// Element `i` of an f32, bf16 or f16 tensor.
float element_f32(const TensorView& tensor, std::int64_t i);

// Whether an f32, bf16 or f16 tensor holds neither NaN nor infinity.
bool all_finite(const TensorView& tensor);

// All elements of an f32, bf16 or f16 tensor; an Error for other types.
std::vector<float> to_f32(const TensorView& tensor);

}  // namespace tessera
