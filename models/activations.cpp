#include "models/activations.h"

#include <algorithm>
#include <optional>

#include "engine/files/json_text.h"
#include "engine/files/safetensors.h"
#include "engine/graph/graph_file.h"
#include "engine/train/random.h"
#include "models/import/foreign_safetensors.h"
#include "models/import/numpy_file.h"
#include "models/import/zip.h"
#include "models/network_run.h"

namespace tessera {
namespace {

constexpr const char* kAbout = "__tessera__";
constexpr std::size_t kMostInflatedBytes = std::size_t{4} << 30;  // of all inflated arrays

bool is_input(const std::string& name) {
  return name == "input" || name.starts_with("input.");
}

void read_npz(const MappedFile& file, const std::string& name, Activations& result) {
  constexpr std::string_view kEnding = ".npy";
  const ZipArchive archive = ZipArchive::read(file.bytes(), name);
  std::size_t left = kMostInflatedBytes;
  for (const ZipMember& member : archive.members()) {
    require(member.name.ends_with(kEnding),
            "{}: the member {} is no array; write it with numpy.savez", name,
            in_quotes(member.name));
    const auto inflated = std::make_shared<std::string>();
    const auto content = archive.content(member, left, *inflated);
    StoredTensor tensor = parse_numpy(content, name + ":" + std::string(member.name));
    tensor.name = member.name.substr(0, member.name.size() - kEnding.size());
    if (!member.is_stored()) result.owners.push_back(inflated);
    left -= inflated->size();
    result.layers.push_back(std::move(tensor));
  }
}

// {"axes": .., "order": [..]} of a tensor of bytes.
void read_about(const StoredTensor& tensor, Activations& result,
                std::map<std::string, std::size_t>& order) {
  constexpr int kMostLevels = 4;
  const std::string_view text(reinterpret_cast<const char*>(tensor.bytes.data()),
                              static_cast<std::size_t>(tensor.elements()));
  require(size_of(tensor.type) == 1 && tensor.strides.empty(), "{} is {}, expected bytes", kAbout,
          name_of(tensor.type));
  check_json_limits(text, kMostLevels);
  const nlohmann::json about = parse_json(text);
  require(about.is_object(), "{} is no JSON object", kAbout);
  if (const auto axes = about.find("axes"); axes != about.end()) {
    require(*axes == "NCHW" || *axes == "NHWC", "{}: the axes are {}, expected NCHW or NHWC",
            kAbout, axes->dump());
    result.axes = axes->get<std::string>();
  }
  result.whole_layers = about.value("whole_layers", nlohmann::json()) == true;
  if (const auto names = about.find("order"); names != about.end() && names->is_array()) {
    for (const nlohmann::json& name : *names)
      if (name.is_string()) order.try_emplace(name.get<std::string>(), order.size());
  }
}

}  // namespace

Activations read_activations(const std::filesystem::path& path) {
  Activations result;
  result.file = path.string();
  const MappedFile file = MappedFile::open(path, "named activations (.npz or safetensors)");
  result.owners.push_back(file.owner());
  if (may_be_safetensors(file.bytes()))
    result.layers = read_safetensors(file, result.file).tensors;
  else
    read_npz(file, result.file, result);
  try {
    std::map<std::string, std::size_t> order;
    for (const StoredTensor& tensor : result.layers)
      if (tensor.name == kAbout) read_about(tensor, result, order);
    std::erase_if(result.layers, [](const StoredTensor& tensor) { return tensor.name == kAbout; });
    const auto place = [&](const StoredTensor& tensor) {
      const auto found = order.find(tensor.name);
      return found == order.end() ? order.size() : found->second;
    };
    std::ranges::stable_sort(result.layers, {}, place);
    std::ranges::copy_if(result.layers, std::back_inserter(result.inputs), is_input,
                         &StoredTensor::name);
    std::ranges::stable_sort(result.inputs, {}, &StoredTensor::name);
    std::erase_if(result.layers, [](const StoredTensor& tensor) { return is_input(tensor.name); });
    for (std::size_t i = 0; i < result.layers.size(); ++i)
      if (result.layers[i].name == "output") result.answer = i;
    require(!result.layers.empty(), "it has no tensor besides {} input(s)", result.inputs.size());
  } catch (const Error& error) {
    fail("{}: {}", result.file, error.what());
  }
  return result;
}

std::vector<NetworkAnswer> our_inputs(const ModelConfig& config, const Activations& activations) {
  const std::vector<NetworkTensor> expected = network_inputs(config);
  require(activations.inputs.size() == expected.size(),
          "{}: it has {} inputs (\"input\", \"input.1\", ...), the network {}", activations.file,
          activations.inputs.size(), expected.size());
  std::vector<NetworkAnswer> inputs;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const StoredTensor& given = activations.inputs[i];
    std::string axes = activations.axes;
    if (axes.empty() && config.is_of_images() && given.shape.size() == 4)
      axes = given.shape[1] < given.shape[3] ? "NCHW" : "NHWC";
    inputs.push_back(our_input(config, expected[i].name, axes, given));
  }
  return inputs;
}

namespace {

// A tensor of ours as one that is stored; `owners` gets its memory.
StoredTensor stored_of(const std::string& name, const TensorType& type,
                       std::vector<std::byte> bytes,
                       std::vector<std::shared_ptr<const void>>& owners) {
  const auto kept = std::make_shared<std::vector<std::byte>>(std::move(bytes));
  owners.push_back(kept);
  StoredTensor::Type stored = StoredTensor::Type::kF32;
  if (type.dtype == DType::kI32) stored = StoredTensor::Type::kI32;
  if (type.dtype == DType::kU8) stored = StoredTensor::Type::kU8;
  const auto dims = type.shape.dims();
  return {name, stored, {dims.begin(), dims.end()}, {}, *kept};
}

// Values from 0 to 1, or word ids, and of lengths the whole.
std::vector<std::byte> made_up(const ModelConfig& config, const TensorType& type, Random& random) {
  std::vector<std::byte> bytes(type.bytes());
  const TensorView view(bytes.data(), type);
  for (std::int64_t i = 0; i < type.shape.elements(); ++i) {
    if (type.dtype == DType::kF32) {
      view.as<float>()[i] = static_cast<float>(random.uniform());
    } else if (type.shape.rank() == 3) {
      view.as<std::int32_t>()[i] =
          static_cast<std::int32_t>(random.uniform(0, config.han->words - 1));
    } else {
      view.as<std::int32_t>()[i] =
          type.shape.rank() == 2 ? config.han->max_words : config.han->max_sentences;
    }
  }
  return bytes;
}

}  // namespace

Activations activations_of(ModelFile& file, const Activations& given,
                           const std::shared_ptr<Device>& device) {
  Activations result;
  result.file = file.weights.file();
  result.axes = "NHWC";
  std::vector<NetworkAnswer> inputs;
  if (given.inputs.empty()) {
    Random random(7);
    for (const TensorType& type : example_inputs(file.config))
      inputs.push_back({type, made_up(file.config, type, random)});
  } else {
    inputs = our_inputs(file.config, given);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i)
    result.inputs.push_back(stored_of(i == 0 ? "input" : fmt::format("input.{}", i), inputs[i].type,
                                      inputs[i].bytes, result.owners));
  Graph graph = build_network(file.config);
  std::vector<ValueId> all;
  for (const Node& node : graph.nodes)
    all.insert(all.end(), node.outputs.begin(), node.outputs.end());
  const std::vector<ValueId> answers = graph.outputs;
  graph.outputs = all;
  const std::vector<NetworkAnswer> made = run_graph(graph, source_of(file.weights), inputs, device);
  for (std::size_t i = 0; i < all.size(); ++i) {
    result.layers.push_back(
        stored_of(graph.values[all[i]], made[i].type, made[i].bytes, result.owners));
    if (!answers.empty() && answers[0] == all[i]) result.answer = i;
  }
  return result;
}

}  // namespace tessera
