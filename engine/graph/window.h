// A piece of a graph's outputs: what it reads of each value, and the graph that makes it.
//
// One walk from outputs to inputs, through every operator's `extent`, serves all that cuts maps:
// the tiles of a large image, the receptive field, the work that pieces share. The bytes of what is
// wanted are those of the whole. Both axes are independent and alike, so the walk goes along one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/graph/graph.h"

namespace tessera {

// A piece along rows (axis 1) or columns (axis 2), in elements of the whole maps.
struct AxisPiece {
  int axis = 1;
  std::vector<std::int64_t> sizes;  // of the whole maps, by value
  Interval wanted;                  // of the graph's outputs
  std::vector<Interval> values;     // what the piece's maps hold, by value
  std::vector<Extent> nodes;        // by node

  const Interval& input(const Graph& graph) const { return values[graph.inputs[0]]; }
  const Interval& output(const Graph& graph) const { return values[graph.outputs[0]]; }
};

// Sizes of all values along an axis of (n, h, w, ...), from their types.
std::vector<std::int64_t> sizes_along(Types types, int axis);

// Whether maps of this type have rows and columns: an image, or its mask. All else is never cut.
bool has_axes(const TensorType& type);

// One operator of a graph whose maps have `sizes` along `axis`: its `extent`, and its `part`.
Extent extent_of(const Node& node, int axis, std::span<const std::int64_t> sizes,
                 std::span<const Interval> wanted);
Op part_of(const Node& node, int axis, std::span<const std::int64_t> sizes, Extent& piece);

// What `wanted` of each of the graph's outputs needs of every value, and no more than that: the
// parts of some operators take more, which `window` adds.
AxisPiece needs(const Graph& graph, int axis, std::span<const std::int64_t> sizes, Interval wanted);

// The piece that holds `wanted` of each of the graph's outputs. `sizes` are those of the whole.
AxisPiece window(const Graph& graph, int axis, std::span<const std::int64_t> sizes,
                 Interval wanted);

// `graph` with each node replaced by its part, for inputs of the sizes that the pieces hold.
Graph piece_of(const Graph& graph, const AxisPiece& rows, const AxisPiece& columns);
// The same along one axis; along the other the maps stay whole.
Graph piece_of(const Graph& graph, const AxisPiece& piece);

// Covers outputs [0, length) with pieces that want equally many, the last one fewer, and whose
// inputs hold at most `most` elements; of such cuts one that computes little twice. `types` are
// those of the whole. Empty where no pieces are that small.
std::vector<AxisPiece> cut(const Graph& graph, int axis, Types types, std::int64_t length,
                           std::int64_t most);

// The least `most` for which there is a cut.
std::int64_t least_cut(const Graph& graph, int axis, Types types, std::int64_t length);

// Input elements along an axis that one output in the middle depends on, with those of its groups.
std::int64_t receptive_field(const Graph& graph, int axis, std::span<const std::int64_t> sizes);

// Operations of one run.
double flops_of(const Graph& graph, Types inputs);

}  // namespace tessera
