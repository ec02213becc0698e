// A network as the source of a PyTorch module: plain layers, one line each.
#pragma once

#include <string>

#include "models/export/layouts.h"
#include "models/networks/torch_names.h"

namespace tessera {

// `weights`: the state dict's file name, for the example in its first lines; `config`: the model
// file's JSON, which the module's state dicts carry. Throws Error, which names the node, for what
// PyTorch cannot say.
std::string torch_module_source(const ExportedNetwork& network,
                                const std::map<const Node*, TorchModule>& modules,
                                const std::string& config, const std::string& weights);

}  // namespace tessera
