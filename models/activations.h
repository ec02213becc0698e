// Named activations: what the layers of a network gave to an input, in another framework
// (tools/dump_torch.py, tools/dump_keras.py) or in a second model.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/device/device.h"
#include "models/import/contents.h"
#include "models/model_file.h"
#include "models/network_run.h"

namespace tessera {

struct Activations {
  std::string file;
  std::vector<StoredTensor> inputs;   // in the network's order
  std::vector<StoredTensor> layers;   // in the order in which they were computed
  std::optional<std::size_t> answer;  // the layer that is the whole network's
  std::string axes;                   // of tensors of images: "NCHW", "NHWC", or empty: not said
  bool whole_layers = false;  // an activation belongs to the layer in front of it, as in Keras
  std::vector<std::shared_ptr<const void>> owners;  // of the bytes
};

// A .npz file (numpy.savez, savez_compressed) or safetensors. Tensors called "input", "input.1",
// ... went in; the tensor "output" is the whole network's answer. The bytes of a tensor
// "__tessera__" are JSON: {"axes": "NCHW", "whole_layers": false, "order": ["inc.0", ..]}; without
// it the file's order counts. Throws Error for what is malformed. Safe for hostile files.
Activations read_activations(const std::filesystem::path& path);

// The inputs in our axes and types. Throws Error where there are more or fewer than the network
// has, or others.
std::vector<NetworkAnswer> our_inputs(const ModelConfig& config, const Activations& activations);

// What every layer of `file` gives to the inputs of `given`; to made-up ones of its smallest size
// where there are none, the same in every run. Axes are ours.
Activations activations_of(ModelFile& file, const Activations& given,
                           const std::shared_ptr<Device>& device);

}  // namespace tessera
