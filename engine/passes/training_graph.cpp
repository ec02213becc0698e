#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

namespace {

// Softmax, sigmoid and argmax: what the loss takes upon itself or does not need.
bool follows_logits(const Op& op) {
  const auto* activation = std::get_if<Activation>(&op);
  return std::holds_alternative<Softmax>(op) || std::holds_alternative<Argmax>(op) ||
         (activation != nullptr && activation->kind == Activation::Kind::kSigmoid);
}

}  // namespace

Graph training_graph(const Graph& graph) {
  Graph result = graph;
  ValueId logits = graph.outputs[0];
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (node->outputs[0] == logits && follows_logits(node->op)) logits = node->inputs[0];
  }
  result.outputs = {logits};
  return remove_unused(result);
}

Graph optimise_training_for_cpu(const Graph& graph, Types types) {
  return select_winograd(fuse_relu(graph), types);
}

Graph optimise_training_for_cuda(const Graph& graph, DType precision) {
  Graph result = set_precision(fuse_relu(graph), precision);
  ValueId logits = result.outputs[0];
  for (auto node = result.nodes.rbegin(); node != result.nodes.rend(); ++node) {
    if (node->outputs[0] != logits) continue;
    if (auto* conv = std::get_if<Conv>(&node->op)) conv->dtype = DType::kF32;
    if (std::holds_alternative<Conv>(node->op)) break;
    logits = node->inputs[0];  // a norm or an activation: of its input's type
  }
  return result;
}

}  // namespace tessera
