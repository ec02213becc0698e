// Walks over tensors in the order of one shape: what broadcasting, cutting, reducing and permuting
// have in common.
#pragma once

#include <array>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/tensor.h"

namespace tessera {

// Elements between neighbours along each axis; 0 repeats one, a negative number goes backward.
using Strides = std::array<std::int64_t, Shape::kMaxRank>;

// Of a dense tensor.
inline Strides strides_of(const Shape& shape) {
  Strides strides{};
  for (int axis = 0; axis < shape.rank(); ++axis)
    strides[static_cast<std::size_t>(axis)] = shape.elements(axis + 1, shape.rank());
  return strides;
}

// Of a dense tensor that numpy's rules broadcast to `to`: axes are aligned at the last, and those
// of extent 1 are repeated.
inline Strides broadcast_strides(const Shape& from, const Shape& to) {
  Strides strides{};
  const int missing = to.rank() - from.rank();
  for (int axis = 0; axis < from.rank(); ++axis)
    if (from[axis] != 1)
      strides[static_cast<std::size_t>(axis + missing)] = from.elements(axis + 1, from.rank());
  return strides;
}

// Calls body(i, offsets) for each element i in [first, end) of `shape` in order, where offsets[k]
// is the sum of its index times strides[k].
template <std::size_t count, class Body>
void walk(const Shape& shape, const std::array<Strides, count>& strides, std::int64_t first,
          std::int64_t end, const Body& body) {
  std::array<std::int64_t, Shape::kMaxRank> index{};
  std::array<std::int64_t, count> offsets{};
  std::int64_t rest = first;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    index[a] = rest % shape[axis];
    rest /= shape[axis];
    for (std::size_t k = 0; k < count; ++k) offsets[k] += index[a] * strides[k][a];
  }
  for (std::int64_t i = first; i < end; ++i) {
    body(i, offsets);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      const bool wraps = ++index[a] == shape[axis];
      if (wraps) index[a] = 0;
      for (std::size_t k = 0; k < count; ++k)
        offsets[k] += wraps ? -(shape[axis] - 1) * strides[k][a] : strides[k][a];
      if (!wraps) break;
    }
  }
}

// The same for all elements.
template <std::size_t count, class Body>
void walk(const Shape& shape, const std::array<Strides, count>& strides, const Body& body) {
  walk(shape, strides, 0, shape.elements(), body);
}

// Element `i` of `from` to element `j` of `to`, as references do it: floats become f32, all else
// keeps its bytes.
inline void copy_element(const TensorView& from, std::int64_t i, const TensorView& to,
                         std::int64_t j) {
  if (to.type.dtype == DType::kF32) {
    to.as<float>()[j] = element_f32(from, i);
  } else {
    const std::size_t size = size_of(from.type.dtype);
    std::memcpy(to.as<std::byte>() + static_cast<std::size_t>(j) * size,
                from.as<std::byte>() + static_cast<std::size_t>(i) * size, size);
  }
}

}  // namespace tessera
