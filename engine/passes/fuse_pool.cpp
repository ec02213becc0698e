#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph fuse_pool(const Graph& graph) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (Node& node : result.nodes) {
    auto* conv = std::get_if<Conv>(&node.op);
    if (conv == nullptr || conv->pool) continue;
    for (const std::size_t reader : readers[node.outputs[0]]) {
      const auto* pool = std::get_if<MaxPool>(&result.nodes[reader].op);
      if (pool == nullptr || !is_halving(*pool)) continue;
      conv->pool = true;
      node.outputs.push_back(result.nodes[reader].outputs[0]);
      dead.insert(reader);
      break;
    }
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
