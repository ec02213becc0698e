// Products over many rows. Arithmetic binds from about 30 columns on.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_products.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/cpu/row_products.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// Rows [first, first + count) of C.
void add_product_rows(const TransposedProduct& product, std::int64_t first, std::int64_t count) {
  const auto m = static_cast<std::size_t>(count), n = static_cast<std::size_t>(product.n);
  for (const RowRun& run : product.runs) {
    const auto k = static_cast<std::size_t>(run.count);
    const TransposedOperand a{product.a.first + run.a * product.a.stride + first,
                              static_cast<std::size_t>(product.a.stride)};
    const TransposedOperand b{product.b.first + run.b * product.b.stride,
                              static_cast<std::size_t>(product.b.stride)};
    if (product.c != nullptr)
      gemm_transposed(a, b, k, m, n, product.c + first * product.ldc,
                      static_cast<std::size_t>(product.ldc));
    if (product.sums != nullptr) add_rows(a, k, m, product.sums + first);
  }
}

std::size_t packed_floats(std::size_t k, std::size_t n) {
  return gemm_packed_size(k, n);
}

// Row panels of B.
void pack_rows(Rows b, std::size_t k, std::size_t n, float* packed) {
  gemm_pack(
      k, n,
      [&](std::size_t row, std::size_t column) {
        return b.first[row * static_cast<std::size_t>(b.stride) + column];
      },
      packed);
}

void multiply_rows(Rows a, std::size_t count, const float* packed, std::size_t k, std::size_t n,
                   float* c, std::size_t ldc) {
  gemm(a.first, static_cast<std::size_t>(a.stride), packed, count, k, n, c, ldc);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(add_product_rows);
HWY_EXPORT(packed_floats);
HWY_EXPORT(pack_rows);
HWY_EXPORT(multiply_rows);

namespace {

constexpr std::int64_t kWeightRows = 96;   // of C that one task takes
constexpr std::int64_t kProductRows = 48;  // of one task: 8 tiles of the product

}  // namespace

void add_transposed_products(std::span<const TransposedProduct> products, int threads) {
  const auto tasks_of = [](const TransposedProduct& product) {
    return (product.m + kWeightRows - 1) / kWeightRows;
  };
  std::int64_t tasks = 0;
  for (const TransposedProduct& product : products) tasks += tasks_of(product);
  parallel_for(threads, tasks, [&](std::int64_t task) {
    std::size_t i = 0;
    for (; task >= tasks_of(products[i]); ++i) task -= tasks_of(products[i]);
    const std::int64_t first = task * kWeightRows;
    HWY_DYNAMIC_DISPATCH(add_product_rows)
    (products[i], first, std::min(kWeightRows, products[i].m - first));
  });
}

std::size_t row_product_floats(std::int64_t k, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(packed_floats)(static_cast<std::size_t>(k),
                                             static_cast<std::size_t>(n));
}

void row_product(Rows a, std::int64_t count, Rows b, std::int64_t k, std::int64_t n, int threads,
                 float* scratch, float* c, std::int64_t ldc) {
  HWY_DYNAMIC_DISPATCH(pack_rows)
  (b, static_cast<std::size_t>(k), static_cast<std::size_t>(n), scratch);
  parallel_for(threads, (count + kProductRows - 1) / kProductRows, [&](std::int64_t task) {
    const std::int64_t first = task * kProductRows;
    HWY_DYNAMIC_DISPATCH(multiply_rows)
    ({a.first + first * a.stride, a.stride},
     static_cast<std::size_t>(std::min(kProductRows, count - first)), scratch,
     static_cast<std::size_t>(k), static_cast<std::size_t>(n), c + first * ldc,
     static_cast<std::size_t>(ldc));
  });
}

}  // namespace tessera
#endif  // HWY_ONCE
