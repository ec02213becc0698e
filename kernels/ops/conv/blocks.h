// How the direct (transposed) convolutions cut a map: blocks of pixels, each one task whose patch
// and sums stay in a core's L2. Nothing but time depends on the cut.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/parallel.h"

namespace tessera {

// `rows` and `columns` of `plan`, which tells by patch_bytes() and sum_bytes() what such a block
// takes, for `n` maps of h x w pixels.
template <class Plan>
void choose_block(Plan& plan, std::int64_t n, std::int64_t h, std::int64_t w, int threads) {
  constexpr std::int64_t kRows = 4, kFewRows = 2;  // even: 2x2 pools stay inside a block
  constexpr std::int64_t kStep = 6;                // columns: rows of a tile of the matrix product
  constexpr std::int64_t kMostColumns = 66, kLeastColumns = 18;
  constexpr std::size_t kBytes = 512 << 10;  // half of a core's L2
  constexpr std::int64_t kBlocksPerThread = 8;

  plan.rows = std::min(kRows, h);
  for (plan.columns = kMostColumns; plan.columns > kLeastColumns; plan.columns -= kStep) {
    if (plan.patch_bytes() + plan.sum_bytes() <= kBytes) break;
  }
  // A small map is cut finer, so that every thread gets several blocks.
  const std::int64_t across = (w + plan.columns - 1) / plan.columns;
  const std::int64_t blocks = n * ((h + plan.rows - 1) / plan.rows) * across;
  if (blocks < kBlocksPerThread * threads) plan.rows = std::min(kFewRows, h);
  plan.columns = std::min(plan.columns, w);
}

// One block: its map, first pixel and size.
struct Block {
  std::int64_t n = 0, y = 0, x = 0, rows = 0, columns = 0;
};

// Calls body(block, patch, sums) for every block, on up to `threads` threads. Each thread has a
// patch and sums of its own in `scratch`.
template <class Plan, class Body>
void for_each_block(const Plan& plan, std::int64_t n, std::int64_t h, std::int64_t w, int threads,
                    std::byte* scratch, const Body& body) {
  const std::int64_t down = (h + plan.rows - 1) / plan.rows;
  const std::int64_t across = (w + plan.columns - 1) / plan.columns;
  const std::size_t per_thread = plan.patch_bytes() + plan.sum_bytes();
  parallel_for(threads, n * down * across, [&](std::int64_t index, int slot) {
    Block block{.n = index / (down * across),
                .y = index / across % down * plan.rows,
                .x = index % across * plan.columns};
    block.rows = std::min(plan.rows, h - block.y);
    block.columns = std::min(plan.columns, w - block.x);
    std::byte* patch = scratch + static_cast<std::size_t>(slot) * per_thread;
    body(block, patch, reinterpret_cast<float*>(patch + plan.patch_bytes()));
  });
}

}  // namespace tessera
