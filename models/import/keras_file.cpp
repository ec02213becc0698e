#include "models/import/keras_file.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "engine/files/json_text.h"
#include "engine/files/mapped_file.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

constexpr std::size_t kMostConfig = std::size_t{64} << 20;  // bytes of JSON

nlohmann::json read_config(std::string_view text, const std::string& what) {
  constexpr int kMostDepth = 200;  // of models in models in models
  require(text.size() <= kMostConfig, "{} has {} bytes, at most {} MB are read", what, text.size(),
          kMostConfig >> 20);
  try {
    return parse_json(text, [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      require(depth <= kMostDepth, "it nests deeper than {}", kMostDepth);
      return true;
    });
  } catch (const Error& error) {
    fail("{}: {}", what, error.what());
  }
}

// A list of texts that may be cut into pieces: name, or name0, name1, ...
std::vector<std::string> texts_of(const nlohmann::json& attributes, const std::string& name) {
  std::vector<std::string> texts;
  const auto append = [&](const std::string& key) {
    const auto found = attributes.find(key);
    if (found == attributes.end() || !found->is_array()) return false;
    for (const nlohmann::json& text : *found) texts.push_back(text.get<std::string>());
    return true;
  };
  if (append(name)) return texts;
  for (int i = 0; append(name + std::to_string(i)); ++i) {
  }
  return texts;
}

bool has_layer_names(const nlohmann::json& attributes) {
  return attributes.contains("layer_names") || attributes.contains("layer_names0");
}

// A model's description beside weights that have none.
nlohmann::json config_beside(const std::string& file, std::vector<std::string>& notes) {
  const std::filesystem::path path(file);
  for (const std::string& name : {std::string("config.json"), std::string("model.json")}) {
    const std::filesystem::path beside = path.parent_path() / name;
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(beside, ignored)) continue;
    const MappedFile text = MappedFile::open(beside, "a description of a Keras model");
    nlohmann::json config = read_config(
        {reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()}, beside.string());
    if (!config.is_object() || !config.contains("class_name")) continue;
    notes.push_back(fmt::format("the layers are those of {}, which lies beside the weights", name));
    return config;
  }
  return nullptr;
}

// weight_names of each layer, as paths of tensors.
nlohmann::json older_layout(const Hdf5& hdf5, const std::string& prefix, const std::string& file) {
  nlohmann::json layers = nlohmann::json::object();
  const std::string root = prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1);
  for (const std::string& layer : texts_of(hdf5.groups.at(root), "layer_names")) {
    const auto group = hdf5.groups.find(prefix + layer);
    require(group != hdf5.groups.end(),
            "{}: the layer {} is named and has no group: the file is cut off; save it again", file,
            in_quotes(layer));
    std::vector<std::string> paths = texts_of(group->second, "weight_names");
    for (std::string& path : paths) path = fmt::format("{}{}/{}", prefix, layer, path);
    layers[layer] = std::move(paths);
  }
  return layers;
}

// The names of layers, where the groups have them.
nlohmann::json newer_layout(const Hdf5& hdf5) {
  constexpr std::string_view kEnd = "/vars";
  nlohmann::json names = nlohmann::json::object();
  for (const auto& [path, attributes] : hdf5.groups) {
    const auto name = attributes.find("name");
    if (path.ends_with(kEnd) && name != attributes.end() && name->is_string())
      names[path.substr(0, path.size() - kEnd.size())] = *name;
  }
  return names;
}

// Takes the tensors, but those of the optimizer.
void take_tensors(Hdf5&& hdf5, Contents& contents) {
  for (StoredTensor& tensor : hdf5.tensors) {
    if (!tensor.name.starts_with("optimizer")) contents.tensors.push_back(std::move(tensor));
  }
  contents.notes.insert(contents.notes.end(), hdf5.notes.begin(), hdf5.notes.end());
  contents.owners.push_back(hdf5.copy);
}

}  // namespace

void add_keras_weights(Hdf5 hdf5, Contents& contents) {
  const nlohmann::json& root = hdf5.groups.at("");
  const bool whole = hdf5.groups.contains("model_weights");
  const std::string prefix = whole ? "model_weights/" : "";
  const nlohmann::json& weights = hdf5.groups.at(whole ? "model_weights" : "");
  nlohmann::json& keras = contents.said["keras"] = nlohmann::json::object();
  if (has_layer_names(weights)) {
    const auto version =
        root.contains("keras_version") ? root.find("keras_version") : weights.find("keras_version");
    require(root.contains("keras_version") || weights.contains("keras_version"),
            "{}: a file of Keras 1, whose layers are other ones; load it with Keras 2 and save it "
            "again",
            contents.file);
    keras["version"] = *version;
    keras["layers"] = older_layout(hdf5, prefix, contents.file);
    if (root.contains("model_config") && root["model_config"].is_string())
      contents.said["config"] = read_config(root["model_config"].get<std::string>(),
                                            contents.file + ": the attribute model_config");
  } else {
    const bool newer =
        hdf5.groups.contains("layers") || hdf5.groups.contains("_layer_checkpoint_dependencies");
    require(newer,
            "{}: an HDF5 file, but none that Keras wrote: it has no attribute layer_names and no "
            "group layers",
            contents.file);
    keras["names"] = newer_layout(hdf5);
  }
  take_tensors(std::move(hdf5), contents);
}

Contents read_keras_hdf5(std::span<const std::byte> bytes, const std::string& file) {
  Contents contents;
  contents.file = file;
  contents.format = "Keras (HDF5)";
  add_keras_weights(read_hdf5(bytes, file), contents);
  if (!contents.said.contains("config")) {
    nlohmann::json config = config_beside(file, contents.notes);
    if (!config.is_null()) contents.said["config"] = std::move(config);
  }
  return contents;
}

bool is_keras_archive(const ZipArchive& archive) {
  return archive.find("config.json") != nullptr && archive.find("model.weights.h5") != nullptr;
}

Contents read_keras_archive(const ZipArchive& archive, const std::string& file) {
  constexpr std::size_t kMostInflated = std::size_t{1} << 30;  // Keras itself stores them
  Contents contents;
  contents.file = file;
  contents.format = "Keras (.keras)";
  std::string inflated;
  const auto text_of = [&](const char* name) {
    const std::span<const std::byte> text =
        archive.content(*archive.find(name), kMostConfig, inflated);
    return std::string_view(reinterpret_cast<const char*>(text.data()), text.size());
  };
  contents.said["config"] = read_config(text_of("config.json"), file + ": config.json");
  const auto weights = std::make_shared<std::string>();
  const ZipMember& member = *archive.find("model.weights.h5");
  const std::size_t limit = member.is_stored() ? member.bytes.size() : kMostInflated;
  add_keras_weights(read_hdf5(archive.content(member, limit, *weights), file), contents);
  contents.owners.push_back(weights);
  if (archive.find("metadata.json") != nullptr) {
    const nlohmann::json metadata = read_config(text_of("metadata.json"), file + ": metadata.json");
    if (metadata.is_object() && metadata.contains("keras_version"))
      contents.said["keras"]["version"] = metadata["keras_version"];
  }
  return contents;
}

}  // namespace tessera
