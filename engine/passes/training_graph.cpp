#include "engine/passes.h"
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

Graph training_graph(const Graph& graph, Types types) {
  Graph result = graph;
  ValueId logits = graph.outputs[0];
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (node->outputs[0] == logits && follows_logits(node->op)) logits = node->inputs[0];
  }
  result.outputs = {logits};
  return select_winograd(fuse_relu(remove_unused(result)), types);
}

}  // namespace tessera
