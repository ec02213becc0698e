#include "engine/passes/passes.h"

namespace tessera {

Graph set_precision(const Graph& graph, DType dtype) {
  Graph result = graph;
  for (Node& node : result.nodes) {
    if (auto* conv = std::get_if<Conv>(&node.op)) conv->dtype = dtype;
    if (auto* up = std::get_if<ConvTranspose>(&node.op)) up->dtype = dtype;
  }
  return result;
}

}  // namespace tessera
