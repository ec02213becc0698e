// Whole networks in tests: random weights, and the graph run node by node on the references.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "engine/graph.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

// Weights by name, made when first asked for: deterministic, scaled so that activations stay of
// order one (He), variances positive. Equal names and shapes give equal values in every object.
class RandomWeights {
 public:
  TensorView operator()(const std::string& name, const Shape& shape);
  WeightSource source() {
    return [this](const std::string& name, const Shape& shape) { return (*this)(name, shape); };
  }
  const std::map<std::string, Tensor>& all() const { return tensors_; }

 private:
  std::map<std::string, Tensor> tensors_;
};

// Outputs of the graph, each node computed by its reference.
std::vector<Tensor> run_graph_reference(const Graph& graph, const WeightSource& weights,
                                        const std::vector<Tensor>& inputs);

// Outputs of an executor on these inputs.
std::vector<Tensor> run_executor(Executor& executor, const std::vector<Tensor>& inputs);

}  // namespace tessera::test
