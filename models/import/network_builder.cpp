#include "models/import/network_builder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/files/safetensors.h"
#include "models/image/mask.h"

namespace tessera {
namespace {

constexpr std::int64_t kMostExtent = 1 << 20;  // of the operators' attributes

template <class... Args>
[[noreturn]] void other_network(fmt::format_string<Args...> text, Args&&... args) {
  throw OtherNetwork(fmt::format(text, std::forward<Args>(args)...));
}

bool counts_batches(std::string_view name) {
  return name.ends_with("num_batches_tracked");
}

FloatTensor filled(std::int64_t count, float value) {
  FloatTensor tensor{Shape{count}};
  std::ranges::fill(tensor.values, value);
  return tensor;
}

// "0.5,0.25,0.1"
std::vector<float> read_numbers(const std::string& name, const std::string& text) {
  std::vector<float> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    float number = 0;
    const auto [behind, error] = std::from_chars(at, end, number);
    require(error == std::errc() && (behind == end || *behind == ',') && std::isfinite(number),
            "--set {}={}: expected numbers with commas between them", name, in_quotes(text));
    numbers.push_back(number);
    at = behind == end ? end : behind + 1;
  }
  return numbers;
}

}  // namespace

NetworkBuilder::NetworkBuilder(const Contents& contents, const ImportOptions& options)
    : contents_(contents), options_(options) {
  for (const StoredTensor& tensor : contents.tensors) by_name_.emplace(tensor.name, &tensor);
  const auto metadata = contents.said.find("metadata");
  if (metadata == contents.said.end() || !metadata->is_object()) return;
  // Of tensors that share memory safetensors' save_model keeps one, and notes the others' names.
  for (const auto& [alias, kept] : metadata->items()) {
    const auto found =
        kept.is_string() ? by_name_.find(kept.get_ref<const std::string&>()) : by_name_.end();
    if (found != by_name_.end()) aliases_.emplace(alias, found->second);
  }
  for (const auto& [alias, tensor] : aliases_) by_name_.emplace(alias, tensor);
}

const StoredTensor& NetworkBuilder::tensor(const std::string& name, std::size_t rank) const {
  constexpr std::size_t kRankOf3D = 5;
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) other_network("there is no tensor {}", in_quotes(name));
  const StoredTensor& tensor = *found->second;
  require(tensor.shape.size() != kRankOf3D || rank == kRankOf3D,
          "{}: the tensor {} of shape {} is a 3-D convolution's; Tessera's networks read single "
          "images: take the 2-D model",
          contents_.file, in_quotes(name), shape_text(tensor.shape));
  if (tensor.shape.size() != rank)
    other_network("the tensor {} has the shape {}, expected {} axes", in_quotes(name),
                  shape_text(tensor.shape), rank);
  if (!tensor.is_float())
    other_network("the tensor {} holds {}, expected floats", in_quotes(name), name_of(tensor.type));
  return tensor;
}

int NetworkBuilder::extent(const std::string& name, std::size_t axis, std::size_t rank) const {
  const std::int64_t extent = tensor(name, rank).shape.at(axis);
  if (extent < 1 || extent > kMostExtent)
    other_network("the tensor {} has the shape {}; extents are 1 to {}", in_quotes(name),
                  shape_text(tensor(name, rank).shape), kMostExtent);
  return static_cast<int>(extent);
}

int NetworkBuilder::count(fmt::string_view pattern, int first) const {
  int count = 0;
  while (has(fmt::vformat(pattern, fmt::make_format_args(first)))) ++first, ++count;
  return count;
}

std::string NetworkBuilder::class_of(const std::string& module) const {
  const auto objects = contents_.said.find("objects");
  if (objects == contents_.said.end() || !objects->contains(module)) return "";
  const std::string type = objects->at(module).value("class", "");
  return type.substr(type.rfind('.') + 1);
}

double NetworkBuilder::attribute(const std::string& module, const char* key,
                                 double otherwise) const {
  const auto objects = contents_.said.find("objects");
  if (objects == contents_.said.end() || !objects->contains(module)) return otherwise;
  const auto attributes = objects->at(module).find("attributes");
  if (attributes == objects->at(module).end()) return otherwise;
  const auto found = attributes->find(key);
  if (found == attributes->end() || !found->is_number()) return otherwise;
  const double value = found->get<double>();
  if (!std::isfinite(value) || std::abs(value) > kMostExtent)
    other_network("{}.{} is {}", in_quotes(module), key, value);
  return value;
}

Activation NetworkBuilder::activation_of(const std::string& module,
                                         const Activation& otherwise) const {
  using Kind = Activation::Kind;
  const std::string type = class_of(module);
  if (type.empty()) return otherwise;
  if (type == "LeakyReLU")
    return {.kind = Kind::kLeakyRelu, .slope = attribute(module, "negative_slope", 0.01)};
  if (type == "ELU") return {.kind = Kind::kElu, .alpha = attribute(module, "alpha", 1)};
  constexpr std::array<std::pair<std::string_view, Kind>, 6> kKinds{
      {{"ReLU", Kind::kRelu},
       {"SiLU", Kind::kSilu},
       {"Swish", Kind::kSilu},
       {"Sigmoid", Kind::kSigmoid},
       {"Tanh", Kind::kTanh},
       {"Softplus", Kind::kSoftplus}}};
  for (const auto& [name, kind] : kKinds)
    if (type == name) return {.kind = kind};
  other_network("its activation {} is a {}, which is not known by name", in_quotes(module),
                in_quotes(type));
}

ValueId NetworkBuilder::image(int channels) {
  network_.channels = {channels};
  names_.insert("image");
  return network_.graph.add_input("image");
}

ValueId NetworkBuilder::add(const std::string& name, Op op, std::vector<ValueId> from) {
  require(network_.graph.nodes.size() < kMaxNodes, "{}: more than {} layers, the most supported",
          contents_.file, kMaxNodes);
  require(!name.empty() && name.size() < kMaxNameBytes,
          "{}: a layer's name has {} bytes, at most {}", contents_.file, name.size(),
          kMaxNameBytes - 1);
  std::string unique = name;
  for (int i = 2; !names_.insert(unique).second; ++i) unique = fmt::format("{}/{}", name, i);
  return network_.graph.add(unique, std::move(op), std::move(from));
}

void NetworkBuilder::give(const std::string& parameter, const StoredTensor& tensor) {
  require(!tensor.name.empty() && tensor.name.size() <= kMaxNameBytes,
          "{}: a tensor's name has {} bytes, at most {}", contents_.file, tensor.name.size(),
          kMaxNameBytes);
  // Strides of 0 would make much out of little; no weight is stored like that.
  const std::size_t held = tensor.bytes.size() / size_of(tensor.type);
  require(std::cmp_less_equal(tensor.elements(), held),
          "{}: the tensor {} of shape {} has {} elements in the file", contents_.file,
          in_quotes(tensor.name), shape_text(tensor.shape), held);
  used_.insert(tensor.name);
  network_.graph.nodes.back().weight_names[parameter] = tensor.name;
  if (!imported_.tensors.contains(tensor.name)) imported_.add(tensor.name, tensor);
}

void NetworkBuilder::give(const std::string& parameter, FloatTensor tensor) {
  imported_.add(weight_name(network_.graph.nodes.back(), parameter), std::move(tensor));
}

ValueId NetworkBuilder::conv(const std::string& name, ValueId x, const ConvLayout& layout) {
  const std::string weight = name + ".weight", bias = name + ".bias";
  Conv conv{.c_out = extent(weight, 0), .groups = layout.groups, .bias = has(bias)};
  Window& window = conv.window;
  window.kernel = {extent(weight, 2), extent(weight, 3)};
  window.stride = layout.stride;
  window.dilation = layout.dilation;
  for (const std::size_t axis : {0u, 1u}) {
    if (!layout.pad && window.kernel[axis] % 2 == 0)
      other_network("the tensor {} has the shape {}, expected an odd kernel", in_quotes(weight),
                    shape_text(tensor(weight, 4).shape));
    const int pad = layout.pad.value_or(window.reach(axis) / 2);
    window.pads[2 * axis] = window.pads[2 * axis + 1] = pad;
  }
  const ValueId y = add(name, conv, {x});
  give("weight", tensor(weight, 4));
  if (conv.bias) give("bias", tensor(bias, 1));
  return y;
}

ValueId NetworkBuilder::conv_transpose(const std::string& name, ValueId x,
                                       const ConvTransposeLayout& layout) {
  const std::string weight = name + ".weight", bias = name + ".bias";
  Window window;
  window.kernel = {extent(weight, 2), extent(weight, 3)};
  window.stride = layout.stride.value_or(window.kernel);
  for (const std::size_t axis : {0u, 1u}) {
    window.pads[2 * axis] = layout.pad;
    window.pads[2 * axis + 1] = layout.pad - layout.output_padding;
  }
  const std::int64_t c_out = std::int64_t{extent(weight, 1)} * layout.groups;
  if (c_out > kMostExtent)
    other_network("the layer {} has {} channels, at most {}", in_quotes(name), c_out, kMostExtent);
  const ValueId y =
      add(name, conv_transpose_of(static_cast<int>(c_out), window, layout.groups, has(bias)), {x});
  give("weight", tensor(weight, 4));
  if (has(bias)) give("bias", tensor(bias, 1));
  return y;
}

ValueId NetworkBuilder::batch_norm(const std::string& name, ValueId x, double eps) {
  const ValueId y = add(name, BatchNorm{.eps = attribute(name, "eps", eps)}, {x});
  const int channels = extent(name + ".running_mean", 0, 1);
  for (const auto& [parameter, value] : {std::pair{"weight", 1.0f}, {"bias", 0.0f}}) {
    const std::string given = name + "." + parameter;
    if (has(given)) {
      give(parameter, tensor(given, 1));
    } else {
      give(parameter, filled(channels, value));
    }
  }
  give("running_mean", tensor(name + ".running_mean", 1));
  give("running_var", tensor(name + ".running_var", 1));
  return y;
}

ValueId NetworkBuilder::group_norm(const std::string& name, ValueId x, int groups, double eps) {
  const bool affine = has(name + ".weight");
  const ValueId y = add(name,
                        GroupNorm{.groups = static_cast<int>(attribute(name, "num_groups", groups)),
                                  .eps = attribute(name, "eps", eps),
                                  .affine = affine},
                        {x});
  if (affine) {
    give("weight", tensor(name + ".weight", 1));
    give("bias", tensor(name + ".bias", 1));
  }
  return y;
}

ValueId NetworkBuilder::prelu(const std::string& name, ValueId x) {
  const bool per_channel = extent(name + ".weight", 0, 1) > 1;
  const ValueId y =
      add(name, Activation{.kind = Activation::Kind::kPrelu, .per_channel = per_channel}, {x});
  give("weight", tensor(name + ".weight", 1));
  return y;
}

ValueId NetworkBuilder::nearest2(const std::string& name, ValueId x) {
  return add(name,
             Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                    .nearest = Resize::Nearest::kFloor,
                    .scale_h = 2,
                    .scale_w = 2},
             {x});
}

ValueId NetworkBuilder::conv_relu(const std::string& name, const std::string& norm, ValueId x,
                                  const ConvLayout& layout) {
  x = conv(name, x, layout);
  if (has(norm + ".running_mean")) x = batch_norm(norm, x);
  return relu(name + "/relu", x);
}

std::string NetworkBuilder::choose(const std::string& name, const std::string& value,
                                   const std::vector<std::string>& values, const std::string& why) {
  asked_.insert(name);
  const auto chosen = options_.choices.find(name);
  if (chosen != options_.choices.end()) {
    require(values.empty() || std::ranges::count(values, chosen->second) > 0,
            "--set {}={}: expected one of {}", name, in_quotes(chosen->second),
            fmt::join(values, ", "));
    imported_.guesses.push_back({name, chosen->second, "chosen"});
    return chosen->second;
  }
  std::vector<std::string> others;
  std::ranges::copy_if(values, std::back_inserter(others),
                       [&](const std::string& other) { return other != value; });
  imported_.guesses.push_back(
      {name, value,
       others.empty() ? why : fmt::format("{}; other values: {}", why, fmt::join(others, ", "))});
  return value;
}

int NetworkBuilder::choose(const std::string& name, int value, const std::string& why) {
  asked_.insert(name);
  const auto chosen = options_.choices.find(name);
  if (chosen == options_.choices.end()) {
    imported_.guesses.push_back({name, std::to_string(value), why + "; another whole number"});
    return value;
  }
  const std::string& text = chosen->second;
  const auto [behind, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && behind == text.data() + text.size() && value >= 1,
          "--set {}={}: expected a whole number from 1", name, in_quotes(text));
  imported_.guesses.push_back({name, text, "chosen"});
  return value;
}

void NetworkBuilder::require_all_used() const {
  for (const StoredTensor& tensor : contents_.tensors) {
    if (!used_.contains(tensor.name) && !counts_batches(tensor.name))
      other_network("the file has also the tensor {} of shape {}", in_quotes(tensor.name),
                    shape_text(tensor.shape));
  }
}

void NetworkBuilder::check_weights(const ModelConfig& config) const {
  const Graph& graph = config.graph->network.graph;
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      const auto given = imported_.tensors.find(name);
      require(given != imported_.tensors.end(), "the layer {} has no {}", in_quotes(node.name),
              parameter.name);
      require(given->second.shape() == parameter.shape,
              "the tensor {} has the shape {}, expected {}", in_quotes(name), given->second.shape(),
              parameter.shape);
    }
  }
}

Preprocessing NetworkBuilder::preprocessing(const NetworkEnd& end, int channels) {
  constexpr std::array<std::pair<const char*, Scale>, 7> kScales{
      {{"unit", Scale::kUnit},
       {"bytes", Scale::kUnit},
       {"symmetric", Scale::kUnit},
       {"none", Scale::kNone},
       {"imagenet", Scale::kUnit},
       {"standardize", Scale::kStandardize},
       {"min_max", Scale::kMinMax}}};
  std::vector<std::string> values;
  for (const auto& [name, scale] : kScales) {
    if (channels == 3 || std::string_view(name) != "imagenet") values.push_back(name);
  }
  const std::string input =
      end.input_said_by.empty() || options_.choices.contains("input")
          ? choose("input", end.input, values, "how pixels go in is not in the file")
          : end.input;
  Preprocessing result{.channels = channels};
  for (const auto& [name, scale] : kScales) {
    if (input == name) result.scale = scale;
  }
  if (input == "imagenet") {
    result.mean = {0.485f, 0.456f, 0.406f};
    result.std = {0.229f, 0.224f, 0.225f};
  }
  if (input == "symmetric") {
    result.mean.assign(static_cast<std::size_t>(channels), 0.5f);
    result.std = result.mean;
  }
  if (input == "bytes") result.std.assign(static_cast<std::size_t>(channels), 1 / 255.0f);
  for (const auto& [name, numbers] : {std::pair{"mean", &result.mean}, {"std", &result.std}}) {
    asked_.insert(name);
    const auto chosen = options_.choices.find(name);
    if (chosen == options_.choices.end()) continue;
    *numbers = read_numbers(name, chosen->second);
    require(std::cmp_equal(numbers->size(), channels), "--set {}: expected {} numbers, found {}",
            name, channels, numbers->size());
    imported_.guesses.push_back({name, chosen->second, "chosen"});
  }
  return result;
}

void NetworkBuilder::check_choices() const {
  for (const auto& [name, value] : options_.choices) {
    require(asked_.contains(name), "--set {}={}: this network has no such choice; it has {}",
            in_quotes(name), in_quotes(value), fmt::join(asked_, ", "));
  }
}

void NetworkBuilder::activate(const std::string& output) {
  ValueId& last = network_.graph.outputs[0];
  last = output == "softmax"
             ? add("probabilities", Softmax{}, {last})
             : add("probabilities", Activation{.kind = Activation::Kind::kSigmoid}, {last});
  network_.outputs[0].name = "probabilities";
  network_.outputs[0].kind = NetworkOutput::Kind::kProbabilities;
  imported_.config.graph->network = network_;
}

Imported NetworkBuilder::finish(const NetworkEnd& end) {
  const int channels = network_.channels.at(0);
  const Graph& graph = network_.graph;
  ModelConfig& config = imported_.config;
  network_.graph.outputs = {end.logits};
  network_.outputs = {{"logits", NetworkOutput::Kind::kLogits, Head::Output::kSigmoid}};
  std::int64_t maps = 0;
  try {
    config.graph = ImageNetwork{network_, end.multiple};
    maps = check_segmentation(*config.graph);
    check_weights(config);
  } catch (const Error& error) {
    throw OtherNetwork(error.what());
  }
  const std::string output =
      end.output.empty() || options_.choices.contains("output")
          ? choose("output", end.output.empty() ? maps == 1 ? "sigmoid" : "softmax" : end.output,
                   {"sigmoid", "softmax"}, fmt::format("the last layer has {} channel(s)", maps))
          : end.output;
  require(
      maps > 1 || output == "sigmoid",
      "{}: a softmax needs at least 2 channels, the last layer, {}, has 1; --set output=sigmoid",
      contents_.file, in_quotes(graph.values[end.logits]));
  if (output == "softmax") config.graph->network.outputs[0].activation = Head::Output::kSoftmax;
  if (end.is_activated && output == end.output) activate(output);
  if (end.multiple > 1 || options_.choices.contains("multiple")) {
    config.graph->multiple =
        choose("multiple", static_cast<int>(end.multiple), "sizes that the network was made for");
    try {
      check_segmentation(*config.graph);
    } catch (const Error& error) {
      fail("--set multiple={}: {}", config.graph->multiple, error.what());
    }
  }
  if (channels == 1 || channels == 3) {
    config.preprocessing = preprocessing(end, channels);
  } else {
    // What it answers to, images cannot ask.
    for (NetworkOutput& one : config.graph->network.outputs)
      one.kind = NetworkOutput::Kind::kTensor;
    note(
        fmt::format("it reads images of {} channels, and image files have 1 (grey) or 3 (RGB): "
                    "`tessera run` and `verify` compute it on arrays",
                    channels));
  }
  const std::int64_t classes = std::max<std::int64_t>(maps, 2);
  config.classes = end.classes;
  if (std::cmp_not_equal(config.classes.size(), classes)) {
    config.classes.clear();
    for (const Rgb& colour : default_colours(classes))
      config.classes.push_back({fmt::format("class {}", config.classes.size()), colour});
  }
  check_choices();
  for (const StoredTensor& tensor : contents_.tensors) {
    if (!imported_.tensors.contains(tensor.name) && !counts_batches(tensor.name))
      imported_.unused.push_back(tensor.name);
  }
  imported_.owners.insert(imported_.owners.end(), contents_.owners.begin(), contents_.owners.end());
  return std::move(imported_);
}

void NetworkBuilder::give_as(const std::string& name, const StoredTensor& tensor,
                             const Shape& shape) {
  const auto without_ones = [](std::span<const std::int64_t> extents) {
    std::vector<std::int64_t> kept;
    std::ranges::copy_if(extents, std::back_inserter(kept), [](std::int64_t e) { return e != 1; });
    return kept;
  };
  if (without_ones(tensor.shape) != without_ones(shape.dims()))
    other_network("the tensor {} has the shape {}, expected {}", in_quotes(tensor.name),
                  shape_text(tensor.shape), shape_text(shape.dims()));
  used_.insert(tensor.name);
  if (tensor.strides.empty()) {
    StoredTensor same = tensor;
    same.shape.assign(shape.dims().begin(), shape.dims().end());
    imported_.add(name, same);
  } else {
    FloatTensor values = read_floats(tensor);
    values.shape = shape;
    imported_.add(name, std::move(values));
  }
}

Imported NetworkBuilder::finish(ModelConfig config, std::optional<Vocabulary> vocabulary) {
  check_choices();
  imported_.config = std::move(config);
  imported_.vocabulary = std::move(vocabulary);
  imported_.owners.insert(imported_.owners.end(), contents_.owners.begin(), contents_.owners.end());
  return std::move(imported_);
}

}  // namespace tessera
