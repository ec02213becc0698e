#include "models/training/fine_tuning.h"

#include <algorithm>

#include "engine/passes/passes.h"
#include "engine/train/gradients.h"
#include "kernels/cpu/convert.h"
#include "models/model_digest.h"
#include "models/training/unet_training.h"

namespace tessera {

namespace {

void keep_classes(NetworkGraph& network) {
  for (const auto kind : {NetworkOutput::Kind::kProbabilities, NetworkOutput::Kind::kLogits}) {
    const auto found = std::ranges::find(network.outputs, kind, &NetworkOutput::kind);
    if (found == network.outputs.end()) continue;
    network.graph.outputs = {
        network.graph.outputs[static_cast<std::size_t>(found - network.outputs.begin())]};
    network.outputs = {*found};
    network.graph = remove_unused(network.graph);
    return;
  }
}

}  // namespace

PretrainedNetwork pretrained_network(ModelFile& file) {
  require(file.config.is_of_images(), "it is a model of texts, expected one of images");
  PretrainedNetwork made{file.config, {}};
  ModelConfig& config = made.config;
  if (config.graph) keep_classes(config.graph->network);
  nlohmann::json provenance{{"from", {{"digest", digest_of(file)}}}};
  for (const char* kept : {"imported", "onnx"})
    if (config.provenance.contains(kept)) provenance[kept] = config.provenance[kept];
  config.provenance = std::move(provenance);

  const Graph graph = segmentation_graph(config, false);
  const std::vector<TensorType> example = example_inputs(config);
  ends_in_sigmoid(config);
  require_trainable(training_graph(graph), example);
  const std::vector<TensorType> types = infer_types(graph, example);
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      FloatTensor& tensor = made.weights[name] = FloatTensor(parameter.shape);
      tensor.values = to_f32(file.weights.take(name, parameter.shape));
    }
  }
  return made;
}

}  // namespace tessera
