#include "engine/passes/passes.h"
#include "kernels/check.h"

namespace tessera {

Graph join_concats(const Graph& graph, Types types) {
  Graph result = graph;
  const std::vector<TensorType> all = infer_types(graph, types);
  for (Node& node : result.nodes) {
    const auto* concat = std::get_if<Concat>(&node.op);
    if (concat == nullptr || node.inputs.size() != 2) continue;
    const TensorType& first = all[node.inputs[0]];
    if (first.shape.rank() == 4 && (concat->axis == -1 || concat->axis == 3) &&
        is_float(first.dtype))
      node.op = CropConcat{CropConcat::Align::kEqual};
  }
  return result;
}

}  // namespace tessera
