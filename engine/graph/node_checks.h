// What is said of a node when something is wrong with its run.
#pragma once

#include "engine/graph/graph.h"
#include "kernels/check.h"
#include "kernels/lengths.h"

namespace tessera {

// Calls `work`; an Error of it is thrown again with the node's kind and name before its text.
template <class Work>
auto named(const Node& node, const Work& work) {
  const auto text = [&](const Error& error) {
    return fmt::format("{} '{}': {}", kind_of(node.op), node.name, error.what());
  };
  try {
    return work();
  } catch (const DeviceError& error) {
    throw DeviceError(text(error));
  } catch (const Error& error) {
    throw Error(text(error));
  }
}

namespace node_checks {

struct CheckValues {
  std::span<const TensorView> inputs;

  void lengths(std::string_view op, std::int64_t t) const {
    if (inputs[1].pointer != nullptr) require_lengths(op, inputs[1], t);
  }
  void operator()(const Embedding& op) const {
    if (inputs[0].pointer != nullptr) require_ids(op, inputs[0]);
  }
  void operator()(const BiRnn& op) const {
    if (op.embedding) (*this)(*op.embedding);
    if (op.masked) lengths("rnn", inputs[0].shape()[op.embedding ? -1 : -2]);
  }
  void operator()(const Attention& op) const {
    if (op.masked) lengths("attention", inputs[0].shape()[-2]);
  }
  template <class Op>
  void operator()(const Op&) const {}
};

}  // namespace node_checks

// Checks the ids and lengths that nodes read from the graph's inputs, given in host memory: on a
// GPU nothing can throw once the kernels run. `types` are those of all values.
inline void check_inputs(const Graph& graph, Types types, std::span<const TensorView> inputs) {
  std::vector<TensorView> known(graph.values.size()), read;  // the others have no memory yet
  for (std::size_t i = 0; i < known.size(); ++i) known[i].type = types[i];
  for (std::size_t i = 0; i < inputs.size(); ++i) known[graph.inputs[i]] = inputs[i];
  for (const Node& node : graph.nodes) {
    read.clear();
    for (const ValueId value : node.inputs) read.push_back(known[value]);
    named(node, [&] { std::visit(node_checks::CheckValues{read}, node.op); });
  }
}

}  // namespace tessera
