#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph remove_unused(const Graph& graph) {
  Graph result = graph;
  std::set<std::size_t> dead;
  std::set<ValueId> needed(graph.outputs.begin(), graph.outputs.end());
  for (std::size_t i = result.nodes.size(); i-- > 0;) {
    const Node& node = result.nodes[i];
    const bool used =
        std::ranges::any_of(node.outputs, [&](ValueId value) { return needed.contains(value); });
    if (used) {
      needed.insert(node.inputs.begin(), node.inputs.end());
    } else {
      dead.insert(i);
    }
  }
  passes::erase_nodes(result, dead);
  return result;
}

namespace {

// All but the choice of a convolution's technique and the pools, which follow it.
Graph fuse(const Graph& graph, DType precision) {
  Graph result = remove_unused(remove_dropout(graph));
  result = fuse_head(fuse_concat(fuse_activation(result)));
  return set_precision(fuse_dense(fuse_embedding(result)), precision);
}

}  // namespace

Graph optimise_for_cpu(const Graph& graph, Types types, DType precision, bool winograd) {
  const Graph fused = fuse(join_concats(graph, types), precision);
  return fuse_pool(fuse_epilogue(winograd ? select_winograd(fused, types) : fused, types));
}

Graph optimise_for_cuda(const Graph& graph, Types types, DType precision) {
  return fuse_pool(fuse_epilogue(fuse(join_concats(graph, types), precision), types));
}

}  // namespace tessera
