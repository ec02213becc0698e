#include "engine/passes/passes.h"

namespace tessera {

Graph select_winograd(const Graph& graph, Types types) {
  Graph result = graph;
  const std::vector<TensorType> all = infer_types(graph, types);
  for (Node& node : result.nodes) {
    auto* conv = std::get_if<Conv>(&node.op);
    if (conv == nullptr || !is_winograd(*conv)) continue;
    std::int64_t c_in = 0;
    for (const ValueId input : node.inputs) c_in += all[input].shape[-1];
    if (c_in >= kWinogradChannels && conv->c_out >= kWinogradChannels)
      conv->technique = Conv::Technique::kWinograd;
  }
  return result;
}

}  // namespace tessera
