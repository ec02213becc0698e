#include <numeric>

#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

Graph remove_dropout(const Graph& graph) {
  Graph result = graph;
  std::set<std::size_t> dead;
  std::vector<ValueId> now(result.values.size());  // what is read in place of each value
  std::iota(now.begin(), now.end(), ValueId{0});
  for (std::size_t i = 0; i < result.nodes.size(); ++i) {
    Node& node = result.nodes[i];
    for (ValueId& value : node.inputs) value = now[value];
    if (!std::holds_alternative<Dropout>(node.op)) continue;
    now[node.outputs[0]] = node.inputs[0];
    dead.insert(i);
  }
  for (ValueId& value : result.outputs) value = now[value];
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
