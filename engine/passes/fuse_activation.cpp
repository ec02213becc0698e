#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

namespace {

constexpr std::type_identity<Activation> kActivation;
constexpr std::type_identity<BatchNorm> kNorm;

bool is_relu(const Graph& graph, std::size_t index) {
  return index < graph.nodes.size() &&
         std::get<Activation>(graph.nodes[index].op).kind == Activation::Kind::kRelu;
}

// `node` makes what node `index` made, under its own name; that one dies.
void absorb(Graph& graph, Node& node, std::size_t index, std::set<std::size_t>& dead) {
  const ValueId made = graph.nodes[index].outputs[0];
  graph.values[made] = graph.values[node.outputs[0]];
  node.outputs[0] = made;
  dead.insert(index);
}

Graph fuse(const Graph& graph, bool norms) {
  Graph result = graph;
  const Readers readers(result);
  std::set<std::size_t> dead;
  for (Node& node : result.nodes) {
    // The node behind `node`, if it holds a T and alone reads its output; its index, else none.
    const auto next = [&]<class T>(std::type_identity<T>) {
      return passes::sole_reader_index<T>(result, readers, node.outputs[0]);
    };
    if (auto* up = std::get_if<ConvTranspose>(&node.op)) {
      if (const std::size_t relu = next(kActivation); is_relu(result, relu)) {
        up->relu = true;
        absorb(result, node, relu, dead);
      }
    }
    auto* conv = std::get_if<Conv>(&node.op);
    if (conv == nullptr) continue;
    // Dead nodes keep their place until the end, so that indices stay valid.
    const auto take_norm = [&](Conv::Norm position) {
      const std::size_t norm = next(kNorm);
      if (norm == result.nodes.size() || conv->norm != Conv::Norm::kNone) return;
      const Node& other = result.nodes[norm];
      conv->norm = position;
      conv->batch_norm = std::get<BatchNorm>(other.op);
      for (const char* parameter : {"weight", "bias", "running_mean", "running_var"})
        node.weight_names[std::string("norm/") + parameter] = weight_name(other, parameter);
      absorb(result, node, norm, dead);
    };
    if (norms && !conv->relu) take_norm(Conv::Norm::kBeforeRelu);
    if (const std::size_t relu = next(kActivation); is_relu(result, relu) && !conv->relu) {
      conv->relu = true;
      absorb(result, node, relu, dead);
    }
    if (norms && conv->relu) take_norm(Conv::Norm::kAfterRelu);
  }
  passes::erase_nodes(result, dead);
  return result;
}

}  // namespace

Graph fuse_activation(const Graph& graph) {
  return fuse(graph, true);
}

Graph fuse_relu(const Graph& graph) {
  return fuse(graph, false);
}

}  // namespace tessera
