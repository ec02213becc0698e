// A network as data: values, and nodes that compute them in order.
//
// A graph holds no weights, no sizes and no memory. Node names are those of the papers
// ("down2/conv1"); they name weights ("down2/conv1/weight"), timings and goldens alike.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops/ops.h"

namespace tessera {

using ValueId = std::size_t;  // index into Graph::values

struct Node {
  std::string name;
  Op op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  // Weight tensors that do not live below the node's name: parameter name -> name in the file.
  std::map<std::string, std::string> weight_names = {};
};

// Name in the model file of a node's parameter.
std::string weight_name(const Node& node, const std::string& parameter);

struct Graph {
  std::vector<std::string> values;  // names; an output is named after its node
  std::vector<Node> nodes;          // in an order in which they can run
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;

  ValueId add_input(std::string name);

  // Appends a node and returns its first output; the others (of Attention) follow it.
  ValueId add(std::string name, Op op, std::vector<ValueId> from);

  bool is_output(ValueId value) const;
};

// How many values a node of this operator makes.
std::size_t output_count(const Op& op);

// Who reads each value of a graph, as it is when this is made.
class Readers {
 public:
  explicit Readers(const Graph& graph);

  // Indices of the nodes, in their order, each once; a graph output counts as nobody's.
  const std::vector<std::size_t>& operator[](ValueId value) const { return nodes_[value]; }

 private:
  std::vector<std::vector<std::size_t>> nodes_;  // by value
};

// Types of all values, by index, from those of the inputs. Throws an Error that names the node
// which cannot take what it reads, or makes more than any machine holds (2^56 elements: 2^59
// bytes).
std::vector<TensorType> infer_types(const Graph& graph, Types inputs);

// The types that `node` reads, picked from `types` of all values.
std::vector<TensorType> input_types(const Node& node, Types types);

// Operator dispatch, for callers that hold an Op rather than one of its alternatives.
std::vector<Parameter> parameters_of(const Node& node, Types inputs);
Cost cost_of(const Node& node, Types inputs);
std::string_view kind_of(const Op& op);  // "conv (Winograd)", "bi_gru", ...

}  // namespace tessera
