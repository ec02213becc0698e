// The two matrix products that the backward run of a dense map of many rows consists of, shared by
// Linear, Attention and BiRnn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tessera {

// Rows of f32 that are `stride` floats apart.
struct Rows {
  const float* first = nullptr;
  std::int64_t stride = 0;
};

// Some consecutive rows of A and of B.
struct RowRun {
  std::int64_t a = 0, b = 0, count = 0;  // first rows and their number
};

// C (m, n; stride ldc) += sum over runs of A^T B, with A (., m) and B (., n);
// sums (m) += sum over runs of the rows of A. Either may be null.
struct TransposedProduct {
  std::span<const RowRun> runs = {};
  Rows a = {}, b = {};
  std::int64_t m = 0, n = 0;
  float* c = nullptr;
  std::int64_t ldc = 0;
  float* sums = nullptr;
};

// All of them; sums are taken in the order of the runs. Threads share the rows of C, so bytes do
// not depend on their number.
void add_transposed_products(std::span<const TransposedProduct> products, int threads);

// C (count, n; stride ldc) = A (count, k) B, with B (k, n; stride ldb) row-major; `scratch` takes
// row_product_floats(k, n) floats.
std::size_t row_product_floats(std::int64_t k, std::int64_t n);
void row_product(Rows a, std::int64_t count, Rows b, std::int64_t k, std::int64_t n, int threads,
                 float* scratch, float* c, std::int64_t ldc);

}  // namespace tessera
