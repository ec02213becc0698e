// Matrix product of bf16 with f32 sums on CPUs with AVX512-BF16, in the manner of gemm-inl.h:
// C (rows, n) = start + A (rows, k) B (k, n).
//
// The instruction multiplies pairs along k, so k is even and B is stored in pairs. Highway 1.0 does
// not know it. Elsewhere `gemm_bf16_supported` is false and callers compute in f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tessera {

bool gemm_bf16_supported();

// Elements that gemm_bf16_pack writes for a B of k (even) rows and n columns.
std::size_t gemm_bf16_packed_size(std::size_t k, std::size_t n);

// Packs B, where element (row, column) is at(row, column), rounded to the nearest even.
void gemm_bf16_pack(std::size_t k, std::size_t n,
                    const std::function<float(std::size_t, std::size_t)>& at,
                    std::uint16_t* packed);

// Columns that gemm_bf16 writes: n rounded up to whole vectors.
std::size_t gemm_bf16_columns(std::size_t n);

// C (rows, gemm_bf16_columns(n); stride ldc) from A (rows, k; stride lda, which may be smaller than
// k) and B as packed. C begins with `start`, a row of gemm_bf16_columns(n) floats; null: with
// itself. An element is one chain of multiply-adds in the order of k, whatever its place in C.
void gemm_bf16(const std::uint16_t* a, std::size_t lda, const std::uint16_t* packed,
               std::size_t rows, std::size_t k, std::size_t n, float* c, std::size_t ldc,
               const float* start);

}  // namespace tessera
