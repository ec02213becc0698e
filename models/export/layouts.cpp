#include "models/export/layouts.h"

#include "kernels/cpu/convert.h"
#include "models/import/onnx_network.h"

namespace tessera {

void Layouts::set(ValueId value, std::string name, Layout layout) {
  made_[value] = layout;
  names_[{value, layout}] = std::move(name);
}

const std::string& Layouts::name(ValueId value, Layout layout) {
  const auto [entry, is_new] = names_.try_emplace({value, layout});
  if (is_new) {
    constexpr std::array kToFirst{0, 3, 1, 2}, kToOurs{0, 2, 3, 1};
    entry->second =
        turn_(names_.at({value, of(value)}), layout == Layout::kChannelsFirst ? kToFirst : kToOurs);
  }
  return entry->second;
}

int placed_axis(int axis, int rank, Layout layout) {
  constexpr std::array kPlaces{0, 2, 3, 1};
  const int ours = axis < 0 ? axis + rank : axis;
  return layout == Layout::kOurs ? ours : kPlaces[static_cast<std::size_t>(ours)];
}

ExportedNetwork exported_network(const ModelConfig& config) {
  ExportedNetwork network;
  network.graph = build_network(config);
  network.types = infer_types(network.graph, example_inputs(config));
  const auto layout_of = [&](ValueId value, const std::string& name) {
    const TensorType& type = network.types[value];
    if (config.han || type.shape.rank() != 4) return Layout::kOurs;
    // What came from ONNX goes back as it was.
    const bool was_ours = config.provenance.contains("onnx") && native_axes(config, name).empty();
    return was_ours ? Layout::kOurs : Layout::kChannelsFirst;
  };
  const Graph& graph = network.graph;
  for (const ValueId value : graph.inputs)
    network.inputs.push_back({value, graph.values[value], layout_of(value, graph.values[value])});
  constexpr std::array kUNet{"mask", "probabilities"};
  constexpr std::array kHan{"probabilities", "word_attention", "sentence_attention"};
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    const std::string name = config.graph  ? config.graph->network.outputs[i].name
                             : config.unet ? kUNet.at(i)
                                           : kHan.at(i);
    network.outputs.push_back({graph.outputs[i], name, layout_of(graph.outputs[i], name)});
  }
  return network;
}

FloatTensor exported_weight(ModelFile& file, const Node& node, const Parameter& parameter) {
  FloatTensor result;
  result.shape = parameter.shape;
  result.values = to_f32(file.weights.take(weight_name(node, parameter.name), parameter.shape));
  return result;
}

}  // namespace tessera
