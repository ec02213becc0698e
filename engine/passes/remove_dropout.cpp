#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph remove_dropout(const Graph& graph) {
  Graph result = graph;
  std::set<std::size_t> dead;
  for (std::size_t i = 0; i < result.nodes.size(); ++i) {
    if (!std::holds_alternative<Dropout>(result.nodes[i].op)) continue;
    passes::redirect(result, result.nodes[i].outputs[0], result.nodes[i].inputs[0]);
    dead.insert(i);
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
