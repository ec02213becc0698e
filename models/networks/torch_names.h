// What the weights of our networks are called in a state dict of PyTorch that we write and read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/graph/graph.h"

namespace tessera {

// The entry of a state dict that holds a model file's JSON: that of a module's extra state.
inline constexpr const char* kTorchModelKey = "_extra_state";

// Of a node with weights.
struct TorchModule {
  std::string path;                            // of its module: "down0.conv1"
  std::map<std::string, std::string> entries;  // parameter -> entry of the state dict
};

// By node, those without weights left out. A weight that already has a name of PyTorch's keeps it,
// so that the class that it came from loads it; nodes of the same weights share a module.
std::map<const Node*, TorchModule> torch_modules(const Graph& graph,
                                                 std::span<const TensorType> types);

}  // namespace tessera
