#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

namespace {

// Softmax or Sigmoid as the head's output; none for any other operator.
std::optional<Head::Output> output_of(const Op& op) {
  if (std::holds_alternative<Softmax>(op)) return Head::Output::kSoftmax;
  const auto* activation = std::get_if<Activation>(&op);
  if (activation != nullptr && activation->kind == Activation::Kind::kSigmoid)
    return Head::Output::kSigmoid;
  return std::nullopt;
}

}  // namespace

Graph fuse_head(const Graph& graph) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (Node& node : result.nodes) {
    const auto* conv = std::get_if<Conv>(&node.op);
    if (conv == nullptr || !is_pointwise(*conv) || conv->norm != Conv::Norm::kNone ||
        conv->concat.has_value() || conv->pool)
      continue;
    const Node* activation = passes::sole_reader(result, readers, node.outputs[0]);
    const std::optional<Head::Output> output =
        activation != nullptr ? output_of(activation->op) : std::nullopt;
    if (!output) continue;
    const ValueId probabilities = activation->outputs[0];
    const std::vector<std::size_t>& reading = readers[probabilities];
    if (reading.size() != 1 || !std::holds_alternative<Argmax>(result.nodes[reading[0]].op))
      continue;

    Head head{.classes = conv->c_out, .bias = conv->bias, .relu = conv->relu, .output = *output};
    head.probabilities = result.is_output(probabilities);
    dead.insert(static_cast<std::size_t>(activation - result.nodes.data()));
    dead.insert(reading[0]);
    node.outputs = result.nodes[reading[0]].outputs;
    if (head.probabilities) node.outputs.push_back(probabilities);
    node.op = head;
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace tessera
