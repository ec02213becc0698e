#include "engine/graph/graph.h"

#include <algorithm>

namespace tessera {

std::string weight_name(const Node& node, const std::string& parameter) {
  const auto renamed = node.weight_names.find(parameter);
  return renamed != node.weight_names.end() ? renamed->second : node.name + "/" + parameter;
}

ValueId Graph::add_input(std::string name) {
  values.push_back(std::move(name));
  inputs.push_back(values.size() - 1);
  return inputs.back();
}

ValueId Graph::add(std::string name, Op op, std::vector<ValueId> from) {
  for (const ValueId value : from)
    require(value < values.size(), "node '{}' reads value {} of {}", name, value, values.size());
  Node node{std::move(name), std::move(op), std::move(from), {}};
  for (std::size_t i = 0; i < output_count(node.op); ++i) {
    values.push_back(i == 0 ? node.name : fmt::format("{}:{}", node.name, i));
    node.outputs.push_back(values.size() - 1);
  }
  nodes.push_back(std::move(node));
  return nodes.back().outputs.front();
}

bool Graph::is_output(ValueId value) const {
  return std::ranges::count(outputs, value) > 0;
}

Readers::Readers(const Graph& graph) : nodes_(graph.values.size()) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId value : graph.nodes[i].inputs) {
      std::vector<std::size_t>& readers = nodes_[value];
      if (readers.empty() || readers.back() != i) readers.push_back(i);
    }
  }
}

std::vector<TensorType> infer_types(const Graph& graph, Types inputs) {
  require(inputs.size() == graph.inputs.size(), "the graph has {} inputs, {} were given",
          graph.inputs.size(), inputs.size());
  std::vector<TensorType> types(graph.values.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) types[graph.inputs[i]] = inputs[i];
  for (const Node& node : graph.nodes) {
    const std::vector<TensorType> read = input_types(node, types);
    std::vector<TensorType> made;
    try {
      made = std::visit([&](const auto& op) { return infer(op, read); }, node.op);
      for (const TensorType& type : made) type.bytes();  // throws where they are too many
    } catch (const Error& error) {
      fail("{} '{}': {}", kind_of(node.op), node.name, error.what());
    }
    require(made.size() == node.outputs.size(), "node '{}' declares {} outputs and has {}",
            node.name, node.outputs.size(), made.size());
    for (std::size_t i = 0; i < made.size(); ++i) types[node.outputs[i]] = made[i];
  }
  return types;
}

std::vector<TensorType> input_types(const Node& node, Types types) {
  std::vector<TensorType> read;
  for (const ValueId value : node.inputs) read.push_back(types[value]);
  return read;
}

std::vector<Parameter> parameters_of(const Node& node, Types inputs) {
  return std::visit([&](const auto& op) { return parameters(op, inputs); }, node.op);
}

Cost cost_of(const Node& node, Types inputs) {
  return std::visit([&](const auto& op) { return cost(op, inputs); }, node.op);
}

namespace {

struct KindName {
  std::string_view operator()(const BiRnn& op) const {
    return op.cell == BiRnn::Cell::kLstm ? "bi_lstm" : "bi_gru";
  }
  std::string_view operator()(const Conv& op) const {
    return op.technique == Conv::Technique::kWinograd ? "conv (Winograd)" : "conv";
  }
  template <class Op>
  std::string_view operator()(const Op&) const {
    return Op::kName;
  }
};

struct OutputCount {
  std::size_t operator()(const Attention&) const { return 2; }
  std::size_t operator()(const Head& op) const { return op.probabilities ? 2 : 1; }
  std::size_t operator()(const Conv& op) const { return op.pool ? 2 : 1; }
  template <class Op>
  std::size_t operator()(const Op&) const {
    return 1;
  }
};

}  // namespace

std::string_view kind_of(const Op& op) {
  return std::visit(KindName{}, op);
}

std::size_t output_count(const Op& op) {
  return std::visit(OutputCount{}, op);
}

}  // namespace tessera
