#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph fuse_dense(const Graph& graph) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (std::size_t i = 0; i < result.nodes.size(); ++i) {
    const Node& node = result.nodes[i];
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr) continue;
    const std::size_t reader =
        passes::sole_reader_index<Attention>(result, readers, node.outputs[0]);
    if (reader == result.nodes.size()) continue;
    Node& pooling = result.nodes[reader];
    auto& attention = std::get<Attention>(pooling.op);
    if (attention.dense || linear->units < attention.units) continue;
    attention.dense = *linear;
    pooling.inputs[0] = node.inputs[0];
    for (const char* name : {"weight", "bias"})
      pooling.weight_names[std::string("dense/") + name] = weight_name(node, name);
    dead.insert(i);
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
