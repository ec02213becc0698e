#include "engine/run/compiled.h"

#include "engine/graph/node_checks.h"
#include "kernels/cpu/convert.h"

namespace tessera {

Compiled::Compiled(Graph graph, const WeightSource& weights, Types example,
                   std::shared_ptr<const Device> device)
    : device_(std::move(device)),
      graph_(std::move(graph)),
      packed_(device_->packed(graph_.nodes.size())) {
  const std::vector<TensorType> types = infer_types(graph_, example);
  for (const Node& node : graph_.nodes) {
    std::vector<TensorView>& taken = weights_.emplace_back();
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      taken.push_back(weights(name, parameter.shape));
      // Kernels convert weights within parallel regions, which no exception may leave.
      require(is_float(taken.back().type.dtype),
              "weight '{}' is {}; expected f32, bf16 or f16: export it as one of them", name,
              taken.back().type);
      require(all_finite(taken.back()),
              "weight '{}' holds a NaN or an infinity; was its training broken off?", name);
    }
  }
}

}  // namespace tessera
