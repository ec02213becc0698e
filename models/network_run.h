// A network by itself: tensors in, tensors out, with nothing scaled, mirrored or tokenised.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/device/device.h"
#include "engine/run/compiled.h"
#include "models/import/contents.h"
#include "models/model_file.h"

namespace tessera {

// The names of a network's inputs and outputs, in its order, and the axes of those that are not as
// ours: "NCHW" of a model that came from ONNX, where ours are (n, h, w, c).
struct NetworkTensor {
  std::string name;
  std::string axes;
};
std::vector<NetworkTensor> network_inputs(const ModelConfig& config);
std::vector<NetworkTensor> network_outputs(const ModelConfig& config);

// A tensor that owns its memory.
struct NetworkAnswer {
  TensorType type;
  std::vector<std::byte> bytes;

  TensorView view() const { return {const_cast<std::byte*>(bytes.data()), type}; }
};

// `given` in our axes, (n, h, w, c) of an image, and our type. `axes` are its own: "NCHW", or as
// ours. Throws Error for what the network does not take; `name` is the input's.
NetworkAnswer our_input(const ModelConfig& config, const std::string& name, const std::string& axes,
                        const StoredTensor& given);

// Every weight by its name and shape; `weights` must outlive it.
WeightSource source_of(Weights& weights);

// The outputs of any graph, in its order; inputs and outputs in our axes.
std::vector<NetworkAnswer> run_graph(const Graph& graph, const WeightSource& weights,
                                     const std::vector<NetworkAnswer>& inputs,
                                     const std::shared_ptr<Device>& device);

// The elements of a tensor of floats or bytes.
std::vector<float> floats_of(const NetworkAnswer& answer);

// Computes all outputs, by name; tensors have the axes that the two functions above say, or, where
// those are ours and an image is (n, c, h, w) by its channels, answers are (n, c, h, w) too. Inputs
// are floats of an image network, and whole numbers of a HAN (word ids, and numbers of words and
// sentences where it is masked). Throws Error for an input that is missing, or that the network
// does not have or take.
std::map<std::string, NetworkAnswer> run_network(ModelFile& file,
                                                 const std::map<std::string, StoredTensor>& inputs,
                                                 const std::shared_ptr<Device>& device);

}  // namespace tessera
