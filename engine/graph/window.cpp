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

AxisPiece unread_piece(int axis, std::span<const std::int64_t> sizes, Interval wanted) {
  return {.axis = axis,
          .sizes = {sizes.begin(), sizes.end()},
          .wanted = wanted,
          .values = {},
          .nodes = {}};
}

std::vector<Interval> asked_of(const Graph& graph, Interval wanted) {
  std::vector<Interval> asked(graph.values.size());
  for (const ValueId value : graph.outputs) asked[value] = wanted;
  return asked;
}

// Pieces read least where they begin and end with what shares its rounding or its pool, which is so
// many elements in deep networks; but longer ones may fit between.
constexpr std::int64_t kFinest = 16;

// Operations of each node for one element of its outputs along `axis`.
std::vector<double> flops_along(const Graph& graph, int axis, Types types) {
  const std::vector<std::int64_t> sizes = sizes_along(types, axis);
  std::vector<double> flops;
  for (const Node& node : graph.nodes)
    flops.push_back(cost_of(node, input_types(node, types)).flops /
                    static_cast<double>(sizes[node.outputs[0]]));
  return flops;
}

double flops_of(std::span<const AxisPiece> pieces, std::span<const double> flops) {
  double sum = 0;
  for (const AxisPiece& piece : pieces)
    for (std::size_t i = 0; i < flops.size(); ++i)
      sum += flops[i] * static_cast<double>(piece.nodes[i].outputs[0].size());
  return sum;
}

}  // namespace

bool has_axes(const TensorType& type) {
  const int rank = type.shape.rank();
  return rank == 4 || (rank == 3 && type.dtype == DType::kU8);
}

std::vector<std::int64_t> sizes_along(Types types, int axis) {
  std::vector<std::int64_t> sizes;
  for (const TensorType& type : types) sizes.push_back(has_axes(type) ? type.shape[axis] : 1);
  return sizes;
}

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

AxisPiece needs(const Graph& graph, int axis, std::span<const std::int64_t> sizes,
                Interval wanted) {
  AxisPiece piece = unread_piece(axis, sizes, wanted);
  pull(graph, asked_of(graph, wanted), piece);
  return piece;
}

AxisPiece window(const Graph& graph, int axis, std::span<const std::int64_t> sizes,
                 Interval wanted) {
  AxisPiece piece = unread_piece(axis, sizes, wanted);
  std::vector<Interval> asked = asked_of(graph, wanted);
  do {
    pull(graph, asked, piece);
  } while (!settle(graph, piece, asked));
  return piece;
}

Graph piece_of(const Graph& graph, const AxisPiece& piece) {
  Graph result = graph;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Extent made = piece.nodes[i];
    result.nodes[i].op = part_of(graph.nodes[i], piece.axis, piece.sizes, made);
  }
  return result;
}

Graph piece_of(const Graph& graph, const AxisPiece& rows, const AxisPiece& columns) {
  return piece_of(piece_of(graph, rows), columns);
}

std::vector<AxisPiece> cut(const Graph& graph, int axis, Types types, std::int64_t length,
                           std::int64_t most) {
  const std::vector<std::int64_t> sizes = sizes_along(types, axis);
  const auto pieces_of = [&](std::int64_t each) {
    std::vector<AxisPiece> pieces;
    for (std::int64_t begin = 0; begin < length; begin += each) {
      pieces.push_back(window(graph, axis, sizes, {begin, std::min(begin + each, length)}));
      if (pieces.back().input(graph).size() > most) return std::vector<AxisPiece>();
    }
    return pieces;
  };
  constexpr std::int64_t kCoarsest = 256;
  const std::vector<double> flops = flops_along(graph, axis, types);
  std::vector<AxisPiece> best;
  for (std::int64_t step = kCoarsest; step >= kFinest; step /= 2) {
    std::int64_t fitting = 0, beyond = std::min(most, length) / step + 1;  // in steps
    std::vector<AxisPiece> longest;
    while (beyond - fitting > 1) {
      const std::int64_t middle = (fitting + beyond) / 2;
      std::vector<AxisPiece> pieces = pieces_of(middle * step);
      (pieces.empty() ? beyond : fitting) = middle;
      if (!pieces.empty()) longest = std::move(pieces);
    }
    if (!longest.empty() && (best.empty() || flops_of(longest, flops) < flops_of(best, flops)))
      best = std::move(longest);
  }
  return best;
}

std::int64_t least_cut(const Graph& graph, int axis, Types types, std::int64_t length) {
  const std::vector<std::int64_t> sizes = sizes_along(types, axis);
  std::int64_t least = 0;
  for (std::int64_t begin = 0; begin < length; begin += kFinest)
    least = std::max(
        least,
        window(graph, axis, sizes, {begin, std::min(begin + kFinest, length)}).input(graph).size());
  return least;
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
