#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

namespace {

// The node behind `node`, if it holds a T and is its output's only reader; its index, else none.
template <class T>
std::size_t next(const Graph& graph, const Node& node) {
  return passes::sole_reader_index<T>(graph, node.outputs[0]);
}

bool is_relu(const Graph& graph, std::size_t index) {
  return index < graph.nodes.size() &&
         std::get<Activation>(graph.nodes[index].op).kind == Activation::Kind::kRelu;
}

// `node` takes over the output of node `index`, which dies: it reads nothing any more, so that it
// does not count as a reader of `node`.
void absorb(Graph& graph, Node& node, std::size_t index, std::set<std::size_t>& dead) {
  passes::redirect(graph, graph.nodes[index].outputs[0], node.outputs[0]);
  graph.nodes[index].inputs.clear();
  dead.insert(index);
}

Graph fuse(const Graph& graph, bool norms) {
  Graph result = graph;
  std::set<std::size_t> dead;
  for (Node& node : result.nodes) {
    if (auto* up = std::get_if<ConvTranspose>(&node.op)) {
      if (const std::size_t relu = next<Activation>(result, node); is_relu(result, relu)) {
        up->relu = true;
        absorb(result, node, relu, dead);
      }
    }
    auto* conv = std::get_if<Conv>(&node.op);
    if (conv == nullptr) continue;
    // Dead nodes keep their place until the end, so that indices stay valid.
    const auto take_norm = [&](Conv::Norm position) {
      const std::size_t norm = next<BatchNorm>(result, node);
      if (norm == result.nodes.size() || conv->norm != Conv::Norm::kNone) return;
      const Node& other = result.nodes[norm];
      conv->norm = position;
      conv->batch_norm = std::get<BatchNorm>(other.op);
      for (const char* parameter : {"weight", "bias", "running_mean", "running_var"})
        node.weight_names[std::string("norm/") + parameter] = weight_name(other, parameter);
      absorb(result, node, norm, dead);
    };
    if (norms && !conv->relu) take_norm(Conv::Norm::kBeforeRelu);
    if (const std::size_t relu = next<Activation>(result, node);
        is_relu(result, relu) && !conv->relu) {
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
