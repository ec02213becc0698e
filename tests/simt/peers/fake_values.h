// Elements in memory for the fake libraries, which know f32 and bf16.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/convert.h"

namespace fake {

constexpr std::size_t bytes(bool wide) {
  return wide ? sizeof(float) : sizeof(std::uint16_t);
}

inline double load_any(bool wide, const void* memory, std::size_t i) {
  if (wide) return static_cast<const float*>(memory)[i];
  return tessera::bf16_to_f32(static_cast<const std::uint16_t*>(memory)[i]);
}
inline void store_any(bool wide, void* memory, std::size_t i, double value) {
  if (wide) {
    static_cast<float*>(memory)[i] = static_cast<float>(value);
  } else {
    static_cast<std::uint16_t*>(memory)[i] = tessera::f32_to_bf16(static_cast<float>(value));
  }
}

template <class Type>
double load(Type type, const void* memory, std::size_t i) {
  return load_any(type == Type{}, memory, i);  // both libraries call f32 zero
}
template <class Type>
void store(Type type, void* memory, std::size_t i, double value) {
  store_any(type == Type{}, memory, i, value);
}

}  // namespace fake
