// Small models of every kind that can be exported: each operator of images in a network of its own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/model_file.h"
#include "tests/support/network.h"

namespace tessera::test {

// A network of RGB images: what `build` makes of a map (n, h, w, 8), behind a convolution and
// before one that makes logits of two classes. It keeps the size of the map.
struct OperatorNetwork {
  std::string name;
  std::function<ValueId(Graph& graph, ValueId x)> build;
};
std::vector<OperatorNetwork> operator_networks();
ModelConfig config_of(const OperatorNetwork& network);

// A model of an image network with random weights, which `weights` owns.
ModelFile model_of(const ModelConfig& config, RandomWeights& weights);

}  // namespace tessera::test
