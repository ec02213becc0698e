#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph fuse_concat(const Graph& graph) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (std::size_t i = 0; i < result.nodes.size(); ++i) {
    const auto* concat = std::get_if<CropConcat>(&result.nodes[i].op);
    if (concat == nullptr) continue;
    const std::size_t reader =
        passes::sole_reader_index<Conv>(result, readers, result.nodes[i].outputs[0]);
    if (reader == result.nodes.size()) continue;
    std::get<Conv>(result.nodes[reader].op).concat = *concat;
    result.nodes[reader].inputs = result.nodes[i].inputs;
    dead.insert(i);
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
