// What kernels for Hopper's tensor cores share: descriptors of operands, and rings of buffers that
// one thread fills and others empty.
#pragma once

#include "kernels/cuda/kernel.h"

namespace tessera {

inline constexpr int kWarpgroup = 128;  // threads that make one wgmma
inline constexpr int kWgmmaRows = 64;
inline constexpr int kSwizzleLine = 128;               // bytes that one row of an operand has
inline constexpr int kSwizzleAtom = 8 * kSwizzleLine;  // after which the swizzle repeats
inline constexpr int kDescribedUnit = 16;  // bytes: what addresses of a descriptor count

// Of rows of kSwizzleLine bytes along k, which lie behind each other with the 128-byte swizzle.
// `rows` may be moved on by whole atoms, and by 16 elements along k: see kDescribedUnit.
__device__ inline std::uint64_t wgmma_descriptor(const void* rows) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kStride = std::uint64_t{kSwizzleAtom / kDescribedUnit} << 32;
  constexpr std::uint64_t kLeading = std::uint64_t{1} << 16;  // not read with this swizzle
  return kSwizzle128 | kStride | kLeading | ((ptx::smem_u32(rows) & 0x3ffff) / kDescribedUnit);
}

// Where a thread stands in a ring of kSlots buffers: the slot, and the parity of the phase that its
// barrier of full buffers is in. That of empty buffers is a phase behind.
template <int kSlots>
struct Ring {
  int slot = 0, parity = 0;

  __device__ explicit Ring(int first = 0) : slot(first) {}
  __device__ void advance(int by = 1) {
    slot += by;
    if (slot < kSlots) return;
    slot -= kSlots;
    parity ^= 1;
  }
};

}  // namespace tessera
