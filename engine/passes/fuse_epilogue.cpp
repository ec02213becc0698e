#include "engine/passes/passes.h"
#include "engine/passes/rewrite.h"

namespace tessera {

namespace {

// Where an operator takes what follows it; null where it takes nothing (more).
Epilogue* epilogue_of(Node& node) {
  if (auto* norm = std::get_if<GroupNorm>(&node.op)) return &norm->epilogue;
  auto* conv = std::get_if<Conv>(&node.op);
  const bool ends =
      conv == nullptr || conv->relu || conv->norm == Conv::Norm::kAfterRelu || conv->pool;
  return ends ? nullptr : &conv->epilogue;
}

// Winograd's tiles jump from row to row of a residual: adding it there took 12 ms of a ResNet34's
// 270, a pass of its own 3.5 (Zen 4, one thread).
bool is_by_tiles(const Node& node) {
  const auto* conv = std::get_if<Conv>(&node.op);
  return conv != nullptr && conv->technique == Conv::Technique::kWinograd;
}

// Whether maps of these types have one size at every size of the image: broadcasting is out where
// there is more than one pixel.
bool are_alike(const TensorType& a, const TensorType& b) {
  return a == b && a.shape.rank() == 4 && a.shape[1] > 1 && a.shape[2] > 1;
}

class EpilogueFusion {
 public:
  EpilogueFusion(const Graph& graph, Types types)
      : graph_(graph), types_(infer_types(graph, types)), readers_(graph) {
    made_by_.assign(graph.values.size(), 0);  // inputs come before all nodes
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      for (const ValueId value : graph.nodes[i].outputs) made_by_[value] = i;
  }

  Graph run() {
    // Backward, so that of two that a sum reads the later one takes it.
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) take_sum(i);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) take_activation(i);
    passes::erase_nodes(graph_, dead_);
    return std::move(graph_);
  }

 private:
  void absorb(Node& node, std::size_t index) {
    const ValueId made = graph_.nodes[index].outputs[0];
    graph_.values[made] = graph_.values[node.outputs[0]];
    node.outputs[0] = made;
    dead_.insert(index);
  }

  template <class T>
  std::size_t next(const Node& node) {
    const std::size_t index = passes::sole_reader_index<T>(graph_, readers_, node.outputs[0]);
    return dead_.contains(index) ? graph_.nodes.size() : index;
  }

  void take_sum(std::size_t index) {
    Node& node = graph_.nodes[index];
    Epilogue* const epilogue = epilogue_of(node);
    if (epilogue == nullptr || is_by_tiles(node)) return;
    const std::size_t sum = next<Binary>(node);
    if (sum == graph_.nodes.size()) return;
    const Node& other = graph_.nodes[sum];
    const auto& binary = std::get<Binary>(other.op);
    if (binary.kind != Binary::Kind::kAdd || other.inputs.size() != 2) return;
    const ValueId made = node.outputs[0];
    const ValueId residual = other.inputs[other.inputs[0] == made ? 1 : 0];
    if (residual == made || made_by_[residual] >= index ||
        !are_alike(types_[made], types_[residual]))
      return;
    epilogue->residual = true;
    node.inputs.push_back(residual);
    absorb(node, sum);
  }

  void take_activation(std::size_t index) {
    Node& node = graph_.nodes[index];
    Epilogue* const epilogue = epilogue_of(node);
    if (dead_.contains(index) || epilogue == nullptr) return;
    const std::size_t reader = next<Activation>(node);
    if (reader == graph_.nodes.size()) return;
    const Node& other = graph_.nodes[reader];
    const auto& activation = std::get<Activation>(other.op);
    auto* conv = std::get_if<Conv>(&node.op);
    if (conv != nullptr && activation.kind == Activation::Kind::kRelu) {
      conv->relu = true;
    } else {
      epilogue->activation = activation;
      if (activation.kind == Activation::Kind::kPrelu)
        node.weight_names["activation/weight"] = weight_name(other, "weight");
    }
    absorb(node, reader);
  }

  Graph graph_;
  std::vector<TensorType> types_;
  Readers readers_;
  std::vector<std::size_t> made_by_;
  std::set<std::size_t> dead_;
};

}  // namespace

Graph fuse_epilogue(const Graph& graph, Types types) {
  return EpilogueFusion(graph, types).run();
}

}  // namespace tessera
