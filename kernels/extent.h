// Pieces of maps along one axis, and what a piece of an operator's outputs reads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

// Elements [begin, end) of a map along an axis.
struct Interval {
  std::int64_t begin = 0, end = 0;

  std::int64_t size() const { return end - begin; }
  bool is_empty() const { return end <= begin; }
  bool operator==(const Interval&) const = default;
};

// The least that holds both; an empty one adds nothing.
Interval hull(Interval a, Interval b);
// What of it lies in a map of `size` elements, and at least one of them: no piece lacks an input,
// even where it reads padding alone.
Interval clip(Interval a, std::int64_t size);
// The least that holds it and begins and ends at multiples of `group`, or at the map's end.
Interval grow(Interval a, std::int64_t group, std::int64_t size);

// A piece of one operator, by output and by input.
struct Extent {
  std::vector<Interval> outputs, inputs;

  bool operator==(const Extent&) const = default;
};

// The axis of (n, h, w, c) that is cut, 1 or 2, and the sizes of the operator's whole maps along
// it. Both axes are independent and alike.
struct Along {
  int axis = 1;
  std::span<const std::int64_t> inputs, outputs;

  std::size_t side() const { return static_cast<std::size_t>(axis - 1); }
};

// `extent` of operators whose output elements each read the input elements at their own place.
Extent elementwise_extent(const Along& along, std::span<const Interval> wanted);
// What `part` does to the piece of such an operator: it makes one element of each that it is given,
// so all its inputs must hold the same.
void take_all(Extent& piece);
// `extent` of operators of whose outputs each element reads everything.
Extent global_extent(const Along& along);

}  // namespace tessera
