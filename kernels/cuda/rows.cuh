// Kernels that make one row of an image after the other, a vector of channels per thread.
#pragma once

#include "kernels/cuda/kernel.h"

namespace tessera {

constexpr int kRowThreads = 256;

// Blocks stride over rows in x and over a row's items in y, so that any size runs.
inline dim3 row_grid(std::int64_t rows, std::int64_t items) {
  constexpr std::int64_t kMostX = 0x7fffffff, kMostY = 0xffff;
  const std::int64_t blocks = (items + kRowThreads - 1) / kRowThreads;
  return dim3(static_cast<unsigned>(rows < kMostX ? rows : kMostX),
              static_cast<unsigned>(blocks < kMostY ? blocks : kMostY));
}

// body(row, item) for each item that this thread of a row_grid makes. Items of a row are counted in
// 32 bits (require_row, row_limit.h): a body may then divide cheaply.
template <class Body>
__device__ inline void for_each_in_row(std::int64_t rows, unsigned items, const Body& body) {
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (unsigned item = blockIdx.y * kRowThreads + threadIdx.x; item < items;
         item += gridDim.y * kRowThreads)
      body(row, item);
  }
}

}  // namespace tessera
