// Flat loops over all elements, in pieces that threads share.
#pragma once

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace tessera {

// Calls body(first, end) for pieces of [0, count), which it may take in any order.
template <class Body>
void for_each_piece(int threads, std::int64_t count, const Body& body) {
  constexpr std::int64_t kPiece = 1 << 14;  // elements; stays in L2
  parallel_for(threads, (count + kPiece - 1) / kPiece, [&](std::int64_t piece) {
    body(piece * kPiece, std::min(count, (piece + 1) * kPiece));
  });
}

}  // namespace tessera
