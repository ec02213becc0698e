// Tiles of matrices for tensor cores (mma.sync, sm_80): both operands lie in shared memory as rows
// of 64 bytes along the reduction, 32 elements of bf16 or f16, or 16 of f32.
//
// A 16-byte part of a row is the unit of copies and of ldmatrix. Two neighbouring rows fill the 128
// bytes of all banks; the XOR with the pair's number puts one part of any 8 rows in sequence into 8
// different places of those, so that ldmatrix meets no bank twice.
#pragma once

#include "kernels/cuda/element.cuh"

namespace tessera {

constexpr int kTileRowBytes = 64;
constexpr int kTilePartBytes = 16;
constexpr int kTileParts = kTileRowBytes / kTilePartBytes;
constexpr int kTileSlices = kTileParts / 2;  // of one mma along the reduction: 32 bytes

// Byte offset of part `part` of row `row`.
__device__ inline int tile_offset(int row, int part) {
  return row * kTileRowBytes + ((part ^ (row / 2 % kTileParts)) * kTilePartBytes);
}

// Slice `slice` of 16 rows of the left operand, as mma takes it: four 8x8 matrices of 16-bit
// elements, or 8x4 of f32, rows first.
__device__ inline void load_left(const std::uint8_t* s_tile, int row, int slice, int lane,
                                 std::uint32_t (&fragment)[4]) {
  ptx::ldmatrix_x4(fragment, s_tile + tile_offset(row + lane % 16, 2 * slice + lane / 16));
}

// Slice `slice` of 16 rows of the right operand (its columns): the fragments of rows 0-7 and 8-15.
__device__ inline void load_right(const std::uint8_t* s_tile, int row, int slice, int lane,
                                  std::uint32_t (&first)[2], std::uint32_t (&second)[2]) {
  std::uint32_t both[4];
  ptx::ldmatrix_x4(both,
                   s_tile + tile_offset(row + lane % 8 + lane / 16 * 8, 2 * slice + lane / 8 % 2));
  first[0] = both[0], first[1] = both[1];
  second[0] = both[2], second[1] = both[3];
}

// f32 as it came from memory becomes TF32, rounded; other types are what they are.
template <class T>
__device__ inline void round_fragment(std::uint32_t (&fragment)[4]) {
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (std::uint32_t& value : fragment) value = ptx::to_tf32(__uint_as_float(value));
  }
}

// sums (16, 8) += left (16, 32 bytes) * right (8, 32 bytes). Lane 4 g + t holds of the sums row g,
// columns 2t and 2t + 1, then row g + 8.
template <class T>
__device__ inline void multiply_add(const std::uint32_t (&left)[4], const std::uint32_t (&right)[2],
                                    float (&sums)[4]) {
  if constexpr (std::is_same_v<T, float>) {
    ptx::mma_m16n8k8_tf32(sums, left, right, sums);
  } else {
    ptx::mma_m16n8k16<T>(sums, left, right, sums);
  }
}

}  // namespace tessera
