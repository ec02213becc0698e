#include "models/import/onnx_network.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "engine/files/json_text.h"
#include "engine/files/safetensors.h"
#include "engine/graph/graph_file.h"
#include "kernels/error.h"
#include "models/import/onnx_converter.h"
#include "models/import/onnx_han.h"
#include "models/import/word_networks.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;
using OutputKind = NetworkOutput::Kind;

const std::vector<int> kNhwc{0, 2, 3, 1}, kAsStored{0, 1, 2, 3};

// The extents of a choice: "1x3x64x64".
Extents parse_extents(const std::string& text) {
  constexpr std::int64_t kMost = 1 << 24;
  Extents extents;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::int64_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    require(error == std::errc() && value > 0 && value <= kMost && (next == end || *next == 'x'),
            "shape: expected extents such as 1x3x64x64, found {}", in_quotes(text));
    extents.push_back(value);
    at = next == end ? next : next + 1;
  }
  return extents;
}

// An input of the file, and what is open about it.
struct OnnxInput {
  const OnnxValueInfo* info = nullptr;
  Extents shape;  // -1: rows or columns, which the caller picks
  std::vector<int> order;
  int rows = -1, columns = -1;  // axes of an image
  bool is_image() const { return rows >= 0; }
  bool is_open() const { return std::ranges::count(shape, -1) > 0; }
  Extents at(std::int64_t height, std::int64_t width) const {
    Extents extents = shape;
    for (std::size_t i = 0; i < extents.size(); ++i)
      if (extents[i] == -1) extents[i] = static_cast<int>(i) == rows ? height : width;
    return extents;
  }
};

// Channels in the last axis, as TensorFlow has them, rather than in the second.
bool is_channels_last(const OnnxModel& model, const std::string& input, const Extents& shape) {
  constexpr std::int64_t kMostChannels = 4;
  const auto is_few = [&](std::size_t axis) {
    return shape[axis] >= 1 && shape[axis] <= kMostChannels;
  };
  if (is_few(3) != is_few(1)) return is_few(3);
  for (const OnnxNode& node : model.nodes) {
    if (node.inputs.empty() || node.inputs[0] != input) continue;
    const auto perm = node.attributes.find("perm");
    return node.op == "Transpose" && perm != node.attributes.end() &&
           perm->second.ints == Extents{0, 3, 1, 2};
  }
  return false;
}

OnnxInput describe_input(const OnnxModel& model, const OnnxValueInfo& info,
                         const ImportOptions& options) {
  OnnxInput input{&info, {}, {}};
  require(info.has_type && info.type >= StoredTensor::Type::kF16,
          "the input {} is {}, expected floats", in_quotes(info.name),
          info.has_type ? name_of(info.type) : "no dense tensor");
  auto chosen = options.choices.find("shape." + info.name);
  if (chosen == options.choices.end() && model.inputs.size() == 1)
    chosen = options.choices.find("shape");
  const bool is_chosen = chosen != options.choices.end();
  input.shape = is_chosen ? parse_extents(chosen->second) : info.dims;
  require(!is_chosen || !info.has_shape || info.dims.size() == input.shape.size(),
          "the input {} has the shape {}, which {} is not", in_quotes(info.name),
          shape_text(info.dims), in_quotes(is_chosen ? chosen->second : ""));
  require(info.has_shape || is_chosen,
          "the file does not say the shape of the input {}; give it with --set shape=1x3x256x256",
          in_quotes(info.name));
  for (std::size_t i = 0; is_chosen && i < info.dims.size(); ++i)
    require(info.dims[i] < 0 || info.dims[i] == input.shape[i],
            "the input {} has the shape {} (-1: any), which {} is not", in_quotes(info.name),
            shape_text(info.dims), in_quotes(chosen->second));
  require(input.shape.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "the input {} has {} axes, at most {} are supported", in_quotes(info.name),
          input.shape.size(), Shape::kMaxRank);
  input.order.resize(input.shape.size());
  std::iota(input.order.begin(), input.order.end(), 0);
  if (input.shape.size() == 4) {
    const bool last = is_channels_last(model, info.name, input.shape);
    input.rows = last ? 1 : 2;
    input.columns = last ? 2 : 3;
    if (!last) input.order = kNhwc;
  }
  if (!input.shape.empty() && input.shape[0] == -1) input.shape[0] = 1;  // one image at a time
  for (std::size_t i = 0; i < input.shape.size(); ++i) {
    const auto axis = static_cast<int>(i);
    require(input.shape[i] != -1 || axis == input.rows || axis == input.columns,
            "the input {} has the shape {} (-1: any), and nothing says the extent of axis {}; give "
            "all of them with --set shape=1x3x256x256",
            in_quotes(info.name), shape_text(info.dims), i);
  }
  return input;
}

// The graph at one size of the image, without what no output needs.
struct Converted {
  NetworkGraph network;
  std::vector<std::string> errors;
  std::map<std::string, OnnxWeight> weights;
  std::vector<TensorType> types;            // of the graph's values
  std::map<std::string, std::string> axes;  // of inputs and outputs, where not as ours
};

// Leaves out nodes that nobody reads.
Graph pruned(const Graph& graph, std::vector<TensorType>& types) {
  std::vector<bool> read(graph.values.size());
  for (const ValueId value : graph.outputs) read[value] = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    if (std::ranges::none_of(node.outputs, [&](ValueId value) { return read[value]; })) continue;
    for (const ValueId value : node.inputs) read[value] = true;
  }
  Graph kept;
  std::vector<TensorType> kept_types;
  std::vector<ValueId> place(graph.values.size());
  for (const ValueId value : graph.inputs) {
    place[value] = kept.add_input(graph.values[value]);
    kept_types.push_back(types[value]);
  }
  for (const Node& node : graph.nodes) {
    if (std::ranges::none_of(node.outputs, [&](ValueId value) { return read[value]; })) continue;
    std::vector<ValueId> from;
    for (const ValueId value : node.inputs) from.push_back(place[value]);
    kept.add(node.name, node.op, from);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      place[node.outputs[i]] = kept.nodes.back().outputs[i];
      kept_types.push_back(types[node.outputs[i]]);
    }
  }
  for (const ValueId value : graph.outputs) kept.outputs.push_back(place[value]);
  types = std::move(kept_types);
  return kept;
}

// What makes a value, or none for an input.
const Node* maker_of(const Graph& graph, ValueId value) {
  for (const Node& node : graph.nodes)
    if (std::ranges::count(node.outputs, value) > 0) return &node;
  return nullptr;
}

// The kind of a map, by what it was made with; logits where that says nothing.
OutputKind kind_of_map(const Graph& graph, ValueId value) {
  const Node* node = maker_of(graph, value);
  if (node == nullptr) return OutputKind::kTensor;
  const auto* activation = std::get_if<Activation>(&node->op);
  const bool sigmoid = activation != nullptr && activation->kind == Activation::Kind::kSigmoid;
  return sigmoid || std::holds_alternative<Softmax>(node->op) ? OutputKind::kProbabilities
                                                              : OutputKind::kLogits;
}

void add_outputs(const OnnxModel& model, OnnxConverter& converter, Converted& result) {
  for (const OnnxValueInfo& info : model.outputs) {
    OnnxValue value = converter.value(info.name);
    require(value.is_map, "the output {} is a constant", in_quotes(info.name));
    require(maker_of(converter.graph(), value.id) != nullptr,
            "the output {} is an input: there is nothing to compute", in_quotes(info.name));
    NetworkOutput output{info.name, OutputKind::kTensor};
    // A mask with an axis of 1 for the classes is one without it.
    if (const Node* node = maker_of(converter.graph(), value.id);
        node != nullptr && std::holds_alternative<Reshape>(node->op)) {
      const Node* from = maker_of(converter.graph(), node->inputs[0]);
      if (from != nullptr && std::holds_alternative<Argmax>(from->op) &&
          converter.types()[from->outputs[0]].shape.rank() == 3) {
        value.id = from->outputs[0];
        value.order = {0, 1, 2};
      }
    }
    if (value.order.size() == 4) {
      if (value.order != kAsStored && value.order != kNhwc)
        value = converter.in_order(value, kNhwc);
      if (value.order == kNhwc) result.axes[info.name] = "NCHW";
      if (converter.types()[value.id].dtype == DType::kF32)
        output.kind = kind_of_map(converter.graph(), value.id);
    } else {
      std::vector<int> order(value.order.size());
      std::iota(order.begin(), order.end(), 0);
      value = converter.in_order(value, order);
      if (order.size() == 3 && converter.types()[value.id].dtype == DType::kU8)
        output.kind = OutputKind::kMask;
    }
    result.network.graph.outputs.push_back(value.id);
    result.network.outputs.push_back(std::move(output));
  }
}

Converted convert(const OnnxModel& model, std::span<const OnnxInput> inputs, std::int64_t height,
                  std::int64_t width) {
  OnnxConverter converter(model);
  Converted result;
  for (const OnnxInput& input : inputs) {
    const Extents extents = input.at(height, width);
    converter.add_input(input.info->name, extents, input.order);
    if (input.order == kNhwc) result.axes[input.info->name] = "NCHW";
  }
  converter.convert();
  result.errors = converter.errors();
  if (!result.errors.empty()) return result;
  add_outputs(model, converter, result);
  result.types = converter.types();
  Graph& graph = converter.graph();
  graph.outputs = result.network.graph.outputs;
  result.network.graph = pruned(graph, result.types);
  for (const ValueId value : result.network.graph.inputs) {
    const Shape& shape = result.types[value].shape;
    result.network.channels.push_back(shape.rank() == 0 ? 1 : static_cast<int>(shape[-1]));
  }
  for (const Node& node : result.network.graph.nodes) {
    std::vector<TensorType> read = input_types(node, result.types);
    for (const Parameter& parameter : parameters_of(node, read)) {
      const std::string name = weight_name(node, parameter.name);
      result.weights[name] = converter.weights().at(name);
    }
  }
  return result;
}

// How many pixels of the image one of the smallest map stands for; 1 where sizes do not divide.
std::int64_t coarsest(const Converted& network, std::int64_t height, std::int64_t width) {
  std::int64_t most = 1;
  for (const TensorType& type : network.types) {
    if (type.shape.rank() != 4 || type.shape[1] < 2 || type.shape[2] < 2) continue;
    if (type.shape[1] > height || type.shape[2] > width) continue;
    const std::int64_t down = height / type.shape[1];
    if (height % type.shape[1] != 0 || width != down * type.shape[2]) return 1;
    most = std::max(most, down);
  }
  return most;
}

// The conversion at a size that runs, and what is known of others.
struct Sized {
  Converted network;
  std::int64_t multiple = 1;
  bool is_fixed = false;  // other sizes would need another graph
};

Sized convert_sized(const OnnxModel& model, std::span<const OnnxInput> inputs) {
  // Most networks halve powers of two; 572 and its like are those of U-Nets without padding.
  constexpr std::int64_t kSizes[] = {256, 572, 252, 260, 268, 320, 500, 224, 192, 128, 96, 64};
  const bool open = std::ranges::any_of(inputs, &OnnxInput::is_open);
  Sized result;
  std::vector<std::string> errors;
  std::int64_t size = 0;
  for (const std::int64_t tried : kSizes) {
    size = tried;
    result.network = convert(model, inputs, size, size);
    if (result.network.errors.empty()) break;
    if (errors.empty()) errors = result.network.errors;
    if (!open) break;
  }
  constexpr std::size_t kShown = 40;
  const std::size_t shown = std::min(errors.size(), kShown);
  require(result.network.errors.empty(), "{} of its nodes cannot be taken:\n  {}{}", errors.size(),
          fmt::join(errors.begin(), errors.begin() + static_cast<std::ptrdiff_t>(shown), "\n  "),
          errors.size() > shown ? "\n  ..." : "");
  const auto image = std::ranges::find_if(inputs, &OnnxInput::is_image);
  if (image == inputs.end()) return result;
  const Extents extents = image->at(size, size);
  const std::int64_t height = extents[static_cast<std::size_t>(image->rows)];
  const std::int64_t width = extents[static_cast<std::size_t>(image->columns)];
  result.multiple = coarsest(result.network, height, width);
  if (!open) return result;
  // The same operators at another size, of another aspect, or it is a graph of this one alone.
  constexpr std::int64_t kStep = 32;
  const std::int64_t step = std::max(result.multiple, kStep);
  const Converted other = convert(model, inputs, size + 2 * step, size + 4 * step);
  result.is_fixed =
      !other.errors.empty() || to_json(other.network) != to_json(result.network.network);
  return result;
}

// Takes a choice, or the guess where there is none, and records it.
std::string choose(const ImportOptions& options, Imported& imported, const std::string& name,
                   const std::string& guess, const std::string& why) {
  const auto chosen = options.choices.find(name);
  if (chosen != options.choices.end()) return chosen->second;
  imported.guesses.push_back({name, guess, why});
  return guess;
}

void choose_output(const ImportOptions& options, const std::optional<ModelConfig>& said,
                   Imported& imported, NetworkGraph& network, Types types) {
  for (std::size_t i = 0; i < network.outputs.size(); ++i) {
    NetworkOutput& output = network.outputs[i];
    if (output.kind != OutputKind::kLogits) continue;
    if (said && said->graph && !options.choices.contains("output")) {
      const auto& known = said->graph->network.outputs;
      const auto found = std::ranges::find(known, output.name, &NetworkOutput::name);
      if (found != known.end() && found->kind != OutputKind::kMask) {
        output = *found;
        continue;
      }
    }
    const bool one = types[network.graph.outputs[i]].shape[-1] == 1;
    const std::string chosen =
        choose(options, imported, "output", one ? "sigmoid" : "softmax",
               "the network ends without an activation; others: softmax, sigmoid, probabilities");
    require(chosen == "softmax" || chosen == "sigmoid" || chosen == "probabilities" ||
                chosen == "tensor",
            "output: expected softmax, sigmoid, probabilities or tensor, found {}",
            in_quotes(chosen));
    if (chosen == "probabilities") output.kind = OutputKind::kProbabilities;
    if (chosen == "tensor") output.kind = OutputKind::kTensor;
    if (chosen == "sigmoid") output.activation = Head::Output::kSigmoid;
    break;
  }
}

void fill_classes(ModelConfig& config, std::int64_t count) {
  const std::vector<Rgb> colours = default_colours(count);
  for (std::size_t i = 0; i < colours.size(); ++i)
    config.classes.push_back({fmt::format("class {}", i), colours[i]});
}

// Of a network that gives a mask alone, how many classes it picks from.
std::int64_t classes_of_mask(const Graph& graph, Types types) {
  for (const Node& node : graph.nodes)
    if (std::holds_alternative<Argmax>(node.op)) return types[node.inputs[0]].shape[-1];
  return 2;
}

// Makes it a network that segments; returns why it is none.
std::string make_segmenter(const ImportOptions& options, const std::optional<ModelConfig>& said,
                           Imported& imported, const Sized& sized) {
  ImageNetwork& image = *imported.config.graph;
  if (sized.is_fixed)
    return "its operators depend on the size of the image, which they hold as numbers";
  try {
    const std::int64_t probable = check_segmentation(image);
    const std::int64_t channels = image.network.channels[0];
    require(channels == 1 || channels == 3, "it reads {} channels, expected 1 or 3", channels);
    const std::int64_t classes =
        probable > 0 ? probable : classes_of_mask(image.network.graph, sized.network.types);
    fill_classes(imported.config, std::clamp<std::int64_t>(classes, 2, 256));
    if (said && said->is_of_images() && said->classes.size() == imported.config.classes.size() &&
        said->preprocessing.channels == channels && !options.choices.contains("scale")) {
      imported.config.classes = said->classes;
      imported.config.preprocessing = said->preprocessing;
      imported.config.masks = said->masks;
      return "";
    }
    const std::string scale = choose(options, imported, "scale", "unit",
                                     "values from 0 to 1; others: none, standardize, min_max");
    imported.config.preprocessing =
        preprocessing_from_json({{"channels", channels}, {"scale", scale}});
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

Imported import_onnx(const MappedFile& file, const std::string& name,
                     const ImportOptions& options) {
  return import_onnx(read_onnx(file.bytes(), name, std::filesystem::path(name).parent_path()),
                     options);
}

Imported import_onnx(const OnnxModel& model, const ImportOptions& options) {
  const std::string& name = model.file;
  if (may_be_onnx_han(model)) return import_onnx_han(model, options);
  if (const std::string words = onnx_word_network(model); !words.empty())
    fail("{}: {}, and no HAN. {}", name, words, kWordNetworkAdvice);
  try {
    std::vector<OnnxInput> inputs;
    for (const OnnxValueInfo& info : model.inputs)
      inputs.push_back(describe_input(model, info, options));
    require(!inputs.empty(), "the network has no inputs");
    Sized sized = convert_sized(model, inputs);
    Imported imported;
    imported.family = "ONNX graph";
    imported.config.graph = ImageNetwork{std::move(sized.network.network), sized.multiple};
    NetworkGraph& network = imported.config.graph->network;
    const std::optional<ModelConfig> said = exported_config(model, imported);
    choose_output(options, said, imported, network, sized.network.types);
    if (const std::string why = make_segmenter(options, said, imported, sized); !why.empty()) {
      for (NetworkOutput& output : network.outputs) output.kind = OutputKind::kTensor;
      imported.guesses.clear();
      imported.notes.push_back(
          fmt::format("it does not segment images ({}); `tessera run` computes it", why));
    }
    nlohmann::json& origin = imported.config.provenance["onnx"];
    origin = {{"opset", model.opset}, {"axes", sized.network.axes}};
    if (!model.producer.empty()) origin["producer"] = model.producer;
    for (const auto& [weight, from] : sized.network.weights) {
      if (from.from->stored && from.axes.empty() && from.factor == 1) {
        StoredTensor stored = *from.from->stored;
        const auto dims = from.shape.dims();
        stored.shape.assign(dims.begin(), dims.end());
        imported.add(weight, stored);
      } else {
        imported.add(weight, from.read());
      }
    }
    imported.notes.insert(imported.notes.end(), model.notes.begin(), model.notes.end());
    imported.owners.insert(imported.owners.end(), model.owners.begin(), model.owners.end());
    return imported;
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (text.starts_with(name)) throw;
    fail("{}: {}", name, text);
  }
}

std::optional<ModelConfig> exported_config(const OnnxModel& model, Imported& imported) {
  constexpr int kMostNesting = 64;
  if (model.config.empty()) return std::nullopt;
  try {
    check_json_limits(model.config, kMostNesting);
    return model_config_from_json(parse_json(model.config), model.file);
  } catch (const Error& error) {
    imported.notes.push_back(fmt::format("its metadata \"tessera\" is left out: {}", error.what()));
    return std::nullopt;
  }
}

std::string native_axes(const ModelConfig& config, const std::string& tensor) {
  for (const char* origin : {"onnx", "bioimageio"}) {
    const auto from = config.provenance.find(origin);
    if (from == config.provenance.end() || !from->is_object()) continue;
    const auto axes = from->find("axes");
    if (axes == from->end() || !axes->is_object()) continue;
    const auto found = axes->find(tensor);
    if (found != axes->end() && found->is_string()) return found->get<std::string>();
  }
  return "";
}

}  // namespace tessera
