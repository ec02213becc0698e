// Whole networks in tests: their variants, random weights, and the graph run node by node on the
// references.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/run/executor.h"
#include "models/networks/han.h"
#include "models/networks/unet.h"
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

// Some networks are 25 convolutions deep; each rounds, and what follows carries it on. Measured f32
// differences lie near 1e-6; the bound leaves room for Winograd's larger constants.
inline constexpr Bound kNetworkBound{2e-4, 0};

// Every kind of UNet that people hold weights of, small, each with an input size that it takes.
struct UNetVariant {
  const char* name;
  UNetConfig config;
  std::int64_t height, width;
};
std::vector<UNetVariant> unet_variants();
void PrintTo(const UNetVariant& variant, std::ostream* out);

struct HanVariant {
  const char* name;
  HanConfig config;
};
std::vector<HanVariant> han_variants();
void PrintTo(const HanVariant& variant, std::ostream* out);

// Three documents of up to 4 sentences of up to 9 words: ids, and where masked both lengths.
std::vector<Tensor> han_inputs(const HanConfig& config);

// Outputs of the graph, each node computed by its reference.
std::vector<Tensor> run_graph_reference(const Graph& graph, const WeightSource& weights,
                                        const std::vector<Tensor>& inputs);

// Outputs of an executor on these inputs.
std::vector<Tensor> run_executor(Executor& executor, const std::vector<Tensor>& inputs);

}  // namespace tessera::test
