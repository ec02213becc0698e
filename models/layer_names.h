// Which value of a network another program's layer is, by their names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/graph/graph.h"
#include "models/activations.h"

namespace tessera {

// A name as modules write it: "/down1/conv/Conv_output_0", "module.down1.conv" and "down1/conv" are
// "down1.conv".
std::string layer_key(std::string_view name);

struct LayerPair {
  ValueId value;       // ours
  std::size_t theirs;  // index in Activations::layers
};
struct LayerPairs {
  std::vector<LayerPair> pairs;              // in the order of the graph, each value at most once
  std::vector<std::size_t> without_partner;  // indices; not those that repeat a pair's values
};

// In this order of preference: the answer is the graph's first output; equal keys; one key that
// ends in the other, where no other does; what stands without weights behind a layer that has a
// pair, if it has the same number of elements (nobody names a ReLU as its author did); a module
// with layers inside is the last of them. Of whole layers the last part counts from the beginning.
// Layers of another number of elements are no pair.
LayerPairs pair_layers(const Graph& graph, Types types, const Activations& theirs);

}  // namespace tessera
