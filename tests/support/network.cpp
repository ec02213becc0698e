#include "tests/support/network.h"

#include <cmath>

namespace tessera::test {

TensorView RandomWeights::operator()(const std::string& name, const Shape& shape) {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) {
    EXPECT_EQ(found->second.type().shape, shape) << name;
    return found->second.view();
  }
  unsigned seed = 1;
  for (const char c : name) seed = seed * 31 + static_cast<unsigned char>(c);
  // Fan-in of PyTorch's layouts: all axes but the first (transposed: 4 or 9 taps, one per output).
  const double fan_in = static_cast<double>(shape.elements()) / static_cast<double>(shape[0]);
  const bool vector = shape.rank() == 1;
  Tensor tensor = random(shape, seed, static_cast<float>(vector ? 0.1 : std::sqrt(1.5 / fan_in)));
  if (name.ends_with("running_var") || name.ends_with("norm/weight")) {
    for (std::int64_t i = 0; i < shape.elements(); ++i)
      tensor.view().as<float>()[i] = 0.75f + std::abs(tensor.view().as<float>()[i]);
  }
  return tensors_.emplace(name, tensor).first->second.view();
}

std::vector<Tensor> run_graph_reference(const Graph& graph, const WeightSource& weights,
                                        const std::vector<Tensor>& inputs) {
  const std::vector<TensorType> value_types = infer_types(graph, types(inputs));
  std::vector<Tensor> values(graph.values.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i]] = inputs[i];
  for (const Node& node : graph.nodes) {
    std::vector<TensorView> read, taken, written;
    for (const ValueId value : node.inputs) read.push_back(values[value].view());
    for (const Parameter& parameter : parameters_of(node, input_types(node, value_types)))
      taken.push_back(weights(weight_name(node, parameter.name), parameter.shape));
    for (const ValueId value : node.outputs) {
      values[value] = Tensor(value_types[value]);
      written.push_back(values[value].view());
    }
    std::visit([&](const auto& op) { reference(op, {read, taken, written}); }, node.op);
  }
  std::vector<Tensor> outputs;
  for (const ValueId value : graph.outputs) outputs.push_back(values[value]);
  return outputs;
}

std::vector<Tensor> run_executor(Executor& executor, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> outputs;
  for (const TensorType& type : executor.output_types(types(inputs))) outputs.emplace_back(type);
  executor.run(views(inputs), views(outputs));
  for (const Tensor& output : outputs) EXPECT_TRUE(output.guards_intact());
  return outputs;
}

}  // namespace tessera::test
