#include "engine/graph/window.h"

#include <algorithm>

namespace tessera {

namespace {

// The whole sizes of a node's maps.
struct NodeSizes {
  std::vector<std::int64_t> inputs, outputs;

  NodeSizes(const Node& node, std::span<const std::int64_t> sizes) {
    for (const ValueId value : node.inputs) inputs.push_back(sizes[value]);
    for (const ValueId value : node.outputs) outputs.push_back(sizes[value]);
  }
};

Extent extent_of(const Node& node, int axis, std::span<const std::int64_t> sizes,
                 std::span<const Interval> wanted) {
  const NodeSizes whole(node, sizes);
  const Along along{axis, whole.inputs, whole.outputs};
  return std::visit([&](const auto& op) { return extent(op, along, wanted); }, node.op);
}

Op part_of(const Node& node, int axis, std::span<const std::int64_t> sizes, Extent& piece) {
  const NodeSizes whole(node, sizes);
  const Along along{axis, whole.inputs, whole.outputs};
  return std::visit([&](const auto& op) -> Op { return part(op, along, piece); }, node.op);
}

// From outputs to inputs: what every value must hold for `asked` of each.
void pull(const Graph& graph, std::span<const Interval> asked, AxisPiece& piece) {
  piece.values.assign(asked.begin(), asked.end());
  piece.nodes.resize(graph.nodes.size());
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    std::vector<Interval> wanted;
    for (const ValueId value : node.outputs) wanted.push_back(piece.values[value]);
    // What nobody reads is made too, so it makes one element.
    if (std::ranges::all_of(wanted, &Interval::is_empty)) wanted[0] = {0, 1};
    piece.nodes[i] = extent_of(node, piece.axis, piece.sizes, wanted);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      Interval& held = piece.values[node.inputs[k]];
      held = hull(held, piece.nodes[i].inputs[k]);
    }
  }
}

// From inputs to outputs: what every value really holds. Adds to `asked` what operators take beyond
// it; returns whether that was nothing.
bool settle(const Graph& graph, AxisPiece& piece, std::vector<Interval>& asked) {
  bool settled = true;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    Extent& made = piece.nodes[i];
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      made.inputs[k] = piece.values[node.inputs[k]];
    part_of(node, piece.axis, piece.sizes, made);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (made.inputs[k] == piece.values[node.inputs[k]]) continue;
      Interval& more = asked[node.inputs[k]];
      more = hull(more, made.inputs[k]);
      settled = false;
    }
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      piece.values[node.outputs[k]] = made.outputs[k];
  }
  return settled;
}

// Whether one end of a value's interval moves by the same from piece to piece, or stays at the end
// of the map.
bool moves_evenly(std::span<const AxisPiece> pieces, ValueId value, std::int64_t Interval::*end,
                  std::int64_t of_map) {
  const std::int64_t first = pieces[0].values[value].*end;
  const std::int64_t moved = pieces[1].values[value].*end - first;
  if (moved == 0 && first != of_map) return false;
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].values[value].*end != first + static_cast<std::int64_t>(i) * moved) return false;
  }
  return true;
}

// The least power of two by which a piece can be moved without changing its shape, where nothing is
// cut off at the ends of the map: 2 for each pooling, times what shares its rounding.
std::int64_t step_of(const Graph& graph, int axis, std::span<const std::int64_t> sizes) {
  constexpr std::int64_t kPieces = 5, kNone = 16;
  const std::int64_t size = sizes[graph.outputs[0]];
  for (std::int64_t step = 1; 2 * kPieces * step <= size; step *= 2) {
    std::vector<AxisPiece> pieces;
    for (std::int64_t i = 0; i < kPieces; ++i) {
      const std::int64_t begin = size / 2 - (kPieces / 2 - i) * step;
      pieces.push_back(window(graph, axis, sizes, {begin, begin + 1}));
    }
    bool even = true;
    for (ValueId value = 0; value < graph.values.size() && even; ++value)
      even = moves_evenly(pieces, value, &Interval::begin, 0) &&
             moves_evenly(pieces, value, &Interval::end, sizes[value]);
    if (even) return step;
  }
  return kNone;  // each piece has a shape of its own
}

}  // namespace

std::vector<std::int64_t> sizes_along(Types types, int axis) {
  std::vector<std::int64_t> sizes;
  for (const TensorType& type : types)
    sizes.push_back(type.shape.rank() > axis ? type.shape[axis] : 1);
  return sizes;
}

AxisPiece window(const Graph& graph, int axis, std::span<const std::int64_t> sizes,
                 Interval wanted) {
  AxisPiece piece{.axis = axis,
                  .sizes = {sizes.begin(), sizes.end()},
                  .wanted = wanted,
                  .values = {},
                  .nodes = {}};
  std::vector<Interval> asked(graph.values.size());
  for (const ValueId value : graph.outputs) asked[value] = wanted;
  do {
    pull(graph, asked, piece);
  } while (!settle(graph, piece, asked));
  return piece;
}

Graph piece_of(const Graph& graph, const AxisPiece& rows, const AxisPiece& columns) {
  Graph result = graph;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = result.nodes[i];
    for (const AxisPiece* piece : {&rows, &columns}) {
      Extent made = piece->nodes[i];
      node.op = part_of(node, piece->axis, piece->sizes, made);
    }
  }
  return result;
}

std::vector<AxisPiece> cut(const Graph& graph, int axis, std::span<const std::int64_t> sizes,
                           std::int64_t length, std::int64_t most) {
  const auto pieces_of = [&](std::int64_t each) {
    std::vector<AxisPiece> pieces;
    for (std::int64_t begin = 0; begin < length; begin += each)
      pieces.push_back(window(graph, axis, sizes, {begin, std::min(begin + each, length)}));
    return pieces;
  };
  const auto fit = [&](const std::vector<AxisPiece>& pieces) {
    return std::ranges::all_of(
        pieces, [&](const AxisPiece& piece) { return piece.input(graph).size() <= most; });
  };
  const std::int64_t step = step_of(graph, axis, sizes);
  std::int64_t fitting = 0, beyond = std::min(most, length) / step + 1;  // in steps
  std::vector<AxisPiece> best;
  while (beyond - fitting > 1) {
    const std::int64_t middle = (fitting + beyond) / 2;
    std::vector<AxisPiece> pieces = pieces_of(middle * step);
    if (fit(pieces)) {
      fitting = middle;
      best = std::move(pieces);
    } else {
      beyond = middle;
    }
  }
  return best.empty() ? pieces_of(step) : best;
}

std::int64_t receptive_field(const Graph& graph, int axis, std::span<const std::int64_t> sizes) {
  const std::int64_t middle = sizes[graph.outputs[0]] / 2;
  return window(graph, axis, sizes, {middle, middle + 1}).input(graph).size();
}

double flops_of(const Graph& graph, Types inputs) {
  const std::vector<TensorType> types = infer_types(graph, inputs);
  double flops = 0;
  for (const Node& node : graph.nodes) flops += cost_of(node, input_types(node, types)).flops;
  return flops;
}

}  // namespace tessera
