// A network that no builder makes: an encoder of strided convolutions, as ResNets have it, and a
// decoder that joins its maps again.
#pragma once

#include "models/model_file.h"
#include "tests/support/network.h"

namespace tessera::test {

// Of RGB images, three classes, sizes that 8 divides. Its answer are logits.
inline NetworkGraph resnet_like() {
  NetworkGraph network;
  Graph& graph = network.graph;
  const auto unit = [&](const std::string& name, ValueId x, int c_out, Window window) {
    x = graph.add(name, Conv{.c_out = c_out, .window = window, .bias = false}, {x});
    x = graph.add(name + "/norm", BatchNorm{.eps = 1e-3}, {x});
    return graph.add(name + "/relu", Activation{}, {x});
  };
  const ValueId image = graph.add_input("image");
  const ValueId stem = unit("stem", image, 8, square(7, 3, 2));
  // A block of stride 2 with its short cut; the two are joined, since nothing adds maps yet.
  const auto block = [&](const std::string& name, ValueId x, int c_out) {
    const ValueId deep =
        unit(name + "/conv2", unit(name + "/conv1", x, c_out, square(3, 1, 2)), c_out, same(3));
    const ValueId flat = unit(name + "/short", x, c_out, square(1, 0, 2));
    return graph.add(name + "/join", CropConcat{CropConcat::Align::kPadUp}, {flat, deep});
  };
  const ValueId half = block("stage1", stem, 12);
  ValueId x = block("stage2", half, 16);
  const auto up = [&](const std::string& name, ValueId deep, ValueId skip, int c_out) {
    const ValueId large = graph.add(name + "/up", ConvTranspose{.c_out = c_out}, {deep});
    const ValueId both =
        graph.add(name + "/join", CropConcat{CropConcat::Align::kPadUp}, {skip, large});
    return unit(name + "/conv", both, c_out, same(3));
  };
  x = up("up2", x, half, 12);
  x = up("up1", x, stem, 8);
  x = graph.add("up0/up", Upsample{}, {x});
  graph.outputs = {graph.add("head", Conv{.c_out = 3, .window = square(1)}, {x})};
  graph.nodes.back().weight_names = {{"weight", "classifier.weight"}, {"bias", "classifier.bias"}};
  network.channels = {3};
  network.outputs = {{"tissue", NetworkOutput::Kind::kLogits, Head::Output::kSoftmax}};
  return network;
}

inline ModelConfig config_of(NetworkGraph network, std::int64_t multiple,
                             const std::vector<std::string>& classes) {
  ModelConfig config;
  config.preprocessing.channels = network.channels.at(0);
  config.graph = ImageNetwork{std::move(network), multiple};
  for (const std::string& name : classes) config.classes.push_back({name, {}});
  return config;
}

// Saves the network with `weights`.
inline void save_network(const std::filesystem::path& path, const ModelConfig& config,
                         RandomWeights& weights) {
  const Graph graph = build_network(config);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  TensorViews views;
  for (const Node& node : graph.nodes) {
    for (const Parameter& p : parameters_of(node, input_types(node, types)))
      views[weight_name(node, p.name)] = weights(weight_name(node, p.name), p.shape);
  }
  save_model(path, config, views, std::nullopt);
}

}  // namespace tessera::test
