// Shared by the passes: who alone reads a value, and dropping nodes. Each pass is one walk.
#pragma once

#include <algorithm>
#include <set>

#include "engine/graph/graph.h"

namespace tessera::passes {

// Removes the nodes with these indices.
inline void erase_nodes(Graph& graph, const std::set<std::size_t>& dead) {
  std::vector<Node> kept;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!dead.contains(i)) kept.push_back(std::move(graph.nodes[i]));
  }
  graph.nodes = std::move(kept);
}

// The only reader of `value`, which is no graph output; null if there are none or several.
inline Node* sole_reader(Graph& graph, const Readers& readers, ValueId value) {
  if (readers[value].size() != 1 || graph.is_output(value)) return nullptr;
  return &graph.nodes[readers[value].front()];
}

// Its index, if it holds a T; else that of no node.
template <class T>
std::size_t sole_reader_index(Graph& graph, const Readers& readers, ValueId value) {
  const Node* reader = sole_reader(graph, readers, value);
  if (reader == nullptr || !std::holds_alternative<T>(reader->op)) return graph.nodes.size();
  return static_cast<std::size_t>(reader - graph.nodes.data());
}

}  // namespace tessera::passes
