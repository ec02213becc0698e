// Walks over strided tensors: what kernels are told of a shape, with as few axes as tell the same.
// Host code makes it, kernels read it (strided.cuh).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tessera {

inline constexpr int kMostAxes = 6;

// Elements in the order of `extents`; element (i0, i1, ...) of tensor k is its i0 strides[k][0] +
// ...
template <int kTensors>
struct StridedWalk {
  int rank = 0;
  std::int64_t extents[kMostAxes] = {};
  std::int64_t strides[kTensors][kMostAxes] = {};
  std::int64_t count = 1;  // of all elements

  // Appends an axis, inside those before it, and joins it with the last where one stride serves
  // both in every tensor.
  void add(std::int64_t extent, const std::array<std::int64_t, kTensors>& steps) {
    count *= extent;
    if (extent == 1) return;
    bool joins = rank > 0;
    for (int k = 0; k < kTensors && joins; ++k)
      joins = strides[k][rank - 1] == steps[static_cast<std::size_t>(k)] * extent;
    if (joins) {
      extents[rank - 1] *= extent;
    } else {
      extents[rank++] = extent;
    }
    for (int k = 0; k < kTensors; ++k) strides[k][rank - 1] = steps[static_cast<std::size_t>(k)];
  }

  // Whether `size` neighbours of the last axis lie side by side in every tensor that moves along
  // it, and at a multiple of `size`.
  bool is_whole(std::int64_t size) const {
    if (rank == 0 || extents[rank - 1] % size != 0) return false;
    for (int k = 0; k < kTensors; ++k) {
      const std::int64_t last = strides[k][rank - 1];
      if (last == 0) continue;
      if (last != 1) return false;
      for (int axis = 0; axis + 1 < rank; ++axis)
        if (strides[k][axis] % size != 0) return false;
    }
    return true;
  }
};

}  // namespace tessera
