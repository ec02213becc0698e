#include "models/networks/image_network.h"

#include <algorithm>

#include "engine/files/json_fields.h"

namespace tessera {

namespace {

using OutputKind = NetworkOutput::Kind;

// Index of the first output of this kind, or the number of outputs.
std::size_t find(const NetworkGraph& network, OutputKind kind) {
  const auto found = std::ranges::find(network.outputs, kind, &NetworkOutput::kind);
  return static_cast<std::size_t>(found - network.outputs.begin());
}

bool gives(const NetworkGraph& network, OutputKind kind) {
  return find(network, kind) < network.outputs.size();
}

// Of a network without classes for pixels, what it is instead.
std::string why_no_images(const NetworkGraph& network) {
  if (network.channels.size() != 1)
    return fmt::format("the network reads {} arrays, and is none that segments images",
                       network.channels.size());
  const std::int64_t channels = network.channels[0];
  if (channels != 1 && channels != 3)
    return fmt::format(
        "the network reads images of {} channels, and image files have 1 (grey) or 3 (RGB)",
        channels);
  return "the network names no output of the kind \"probabilities\" or \"logits\", so that it has "
         "no mask (in a model file, name the value that holds them)";
}

// What `names` of a node's weights stand for must be its operator's parameters.
void check_weight_names(const Graph& graph, Types types) {
  for (const Node& node : graph.nodes) {
    if (node.weight_names.empty()) continue;
    const std::vector<Parameter> parameters = parameters_of(node, input_types(node, types));
    for (const auto& entry : node.weight_names) {
      require(std::ranges::count(parameters, entry.first, &Parameter::name) == 1,
              "node '{}': its operator has no weight {}; name one of its parameters", node.name,
              JsonFields::shown(nlohmann::json(entry.first)));
    }
  }
}

}  // namespace

nlohmann::json sizes_to_json(const ImageNetwork& network) {
  return {{"multiple", network.multiple}};
}

void read_sizes(const nlohmann::json& object, ImageNetwork& network) {
  constexpr int kMostMultiple = 1 << 12;
  JsonFields fields(object, "sizes");
  int multiple = 1;
  fields.read("multiple", multiple, 1, kMostMultiple);
  fields.refuse_unknown();
  network.multiple = multiple;
}

Graph segmentation_graph(const NetworkGraph& network, bool probabilities) {
  Graph graph = network.graph;
  std::optional<ValueId> classes, mask;
  if (gives(network, OutputKind::kProbabilities)) {
    classes = network.graph.outputs[find(network, OutputKind::kProbabilities)];
  } else if (const std::size_t i = find(network, OutputKind::kLogits); i < network.outputs.size()) {
    const Op activation = network.outputs[i].activation == Head::Output::kSoftmax
                              ? Op(Softmax())
                              : Op(Activation{Activation::Kind::kSigmoid});
    const ValueId logits = network.graph.outputs[i];
    classes = graph.add(graph.values[logits] + "/probabilities", activation, {logits});
  }
  if (gives(network, OutputKind::kMask))
    mask = network.graph.outputs[find(network, OutputKind::kMask)];
  require(classes || mask,
          "{}: `tessera run MODEL --input in.npy --output out.npy` computes it on arrays",
          why_no_images(network));
  require(classes || !probabilities,
          "the network names no output of the kind \"probabilities\" or \"logits\", so that it has "
          "no probabilities; name the value that holds them");
  if (!mask) mask = graph.add(graph.values[*classes] + "/mask", Argmax(), {*classes});
  graph.outputs = {*mask};
  if (probabilities) graph.outputs.push_back(*classes);
  return graph;
}

std::int64_t check_segmentation(const ImageNetwork& image) {
  const NetworkGraph& network = image.network;
  require(network.channels.size() == 1, "graph.inputs: one image is the input, found {}",
          network.channels.size());
  const bool probable =
      gives(network, OutputKind::kProbabilities) || gives(network, OutputKind::kLogits);
  const Graph graph = segmentation_graph(network, probable);
  const ImageSizes sizes(graph, network.channels[0], image.multiple);
  const TensorType least = sizes.least();
  const std::vector<TensorType> types = infer_types(graph, {&least, 1});
  check_weight_names(graph, types);
  const TensorType& mask = types[graph.outputs[0]];
  require(mask.dtype == DType::kU8 && mask.shape.rank() == 3 && mask.shape[0] == 1,
          "graph.outputs: a mask is u8 (n, h, w), '{}' is {}; end it with an argmax",
          graph.values[graph.outputs[0]], mask);
  if (!probable) return 0;
  const TensorType& classes = types[graph.outputs[1]];
  const Shape expected{1, mask.shape[1], mask.shape[2], classes.shape[-1]};
  constexpr std::int64_t kMostClasses = 256;
  require(classes == TensorType{DType::kF32, expected} && classes.shape[-1] <= kMostClasses,
          "graph.outputs: probabilities are f32 {} with up to {} classes, '{}' is {}", expected,
          kMostClasses, graph.values[graph.outputs[1]], classes);
  return classes.shape[-1];
}

}  // namespace tessera
