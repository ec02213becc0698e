#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph fuse_embedding(const Graph& graph) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (std::size_t i = 0; i < result.nodes.size(); ++i) {
    const Node& node = result.nodes[i];
    const auto* embedding = std::get_if<Embedding>(&node.op);
    if (embedding == nullptr) continue;
    const std::size_t reader = passes::sole_reader_index<BiRnn>(result, readers, node.outputs[0]);
    if (reader == result.nodes.size()) continue;
    Node& rnn = result.nodes[reader];
    std::get<BiRnn>(rnn.op).embedding = *embedding;
    rnn.inputs[0] = node.inputs[0];
    rnn.weight_names["embedding"] = weight_name(node, "weight");
    dead.insert(i);
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
