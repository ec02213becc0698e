// What the emulated cuTensorMapEncode* put into a CUtensorMap, whose bits the vendor keeps secret.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>

namespace simt::machine {

inline constexpr int kMaxTensorRank = 5;

// Axes innermost first; strides in bytes, of axes 1 and up.
struct TensorMap {
  std::uint64_t base;
  std::array<std::uint64_t, kMaxTensorRank - 1> stride;
  std::array<std::uint32_t, kMaxTensorRank> extent;
  std::array<std::uint16_t, kMaxTensorRank> box;
  std::array<std::uint8_t, kMaxTensorRank> element_stride;
  std::uint8_t rank, element_bytes;
  std::uint8_t swizzle;  // 0: none; n: groups of 16 bytes within 16 << n
  bool im2col;
  std::array<std::int16_t, 3> lower, upper;  // corners of im2col's bounding box
  std::uint16_t channels, pixels;            // of an im2col load
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

// Where swizzle `mode` (TensorMap::swizzle) puts the bytes of a shared address: bits 4..6 are
// flipped by those of the row, bits 7 and up.
inline std::uint32_t swizzled(std::uint32_t address, int mode) {
  const std::uint32_t rows = (1u << mode) - 1;
  return address ^ ((address >> 7 & rows) << 4);
}

}  // namespace simt::machine
