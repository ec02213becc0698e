// Shared by the passes: replacing a value and dropping nodes.
#pragma once

#include <algorithm>
#include <set>

#include "engine/graph/graph.h"

namespace tessera::passes {

// Every reader of `from` (and the graph's outputs) reads `to` instead.
inline void redirect(Graph& graph, ValueId from, ValueId to) {
  for (Node& node : graph.nodes) std::ranges::replace(node.inputs, from, to);
  std::ranges::replace(graph.outputs, from, to);
}

// Removes the nodes with these indices.
inline void erase_nodes(Graph& graph, const std::set<std::size_t>& dead) {
  std::vector<Node> kept;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!dead.contains(i)) kept.push_back(std::move(graph.nodes[i]));
  }
  graph.nodes = std::move(kept);
}

// Index of the only node that reads `value`, if it holds a T and reads nothing else; else none.
template <class T>
std::size_t sole_reader_index(const Graph& graph, ValueId value) {
  const Node* reader = graph.sole_reader(value);
  if (reader == nullptr || !std::holds_alternative<T>(reader->op)) return graph.nodes.size();
  return static_cast<std::size_t>(reader - graph.nodes.data());
}

}  // namespace tessera::passes
