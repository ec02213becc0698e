#include "models/model_file.h"

#include <algorithm>
#include <cstring>

#include "engine/files/json_fields.h"
#include "engine/files/json_text.h"
#include "engine/files/safetensors.h"
#include "kernels/cpu/convert.h"

namespace tessera {

namespace {

constexpr const char* kVocabularyName = "vocabulary";
constexpr int kModelFormat = 1;
constexpr int kMaxNesting = 64;

std::vector<ModelClass> classes_from_json(const nlohmann::json* list, std::size_t count) {
  std::vector<ModelClass> classes;
  const std::vector<Rgb> colours = default_colours(static_cast<std::int64_t>(count));
  for (std::size_t i = 0; i < count; ++i)
    classes.push_back({fmt::format("class {}", i), colours[i]});
  if (list == nullptr) return classes;
  require(list->is_array() && list->size() == count,
          "classes: expected a list of {}, found {} of {}", count, list->type_name(), list->size());
  for (std::size_t i = 0; i < count; ++i) {
    JsonFields fields((*list)[i], fmt::format("classes[{}]", i));
    fields.read("name", classes[i].name);
    if (const nlohmann::json* colour = fields.take("colour")) {
      const bool fits = colour->is_array() && colour->size() == 3 &&
                        std::ranges::all_of(*colour, [](const nlohmann::json& part) {
                          return part.is_number_unsigned() && part.get<std::uint64_t>() <= 255;
                        });
      require(fits, "classes[{}].colour: expected [red, green, blue] from 0 to 255", i);
      for (std::size_t j = 0; j < 3; ++j) classes[i].colour[j] = (*colour)[j].get<std::uint8_t>();
    }
    fields.refuse_unknown();
  }
  return classes;
}

// How many classes a list of them names: all that is known of a network which gives a mask alone.
std::size_t named_classes(const nlohmann::json* list) {
  constexpr std::size_t kMost = 256;
  require(list != nullptr && list->is_array() && list->size() >= 2 && list->size() <= kMost,
          "classes: expected a list of 2 to {}, because the network gives a mask alone, which does "
          "not tell their number",
          kMost);
  return list->size();
}

TrainedMasks masks_from_json(const nlohmann::json& object, std::size_t classes) {
  JsonFields fields(object, "masks");
  std::string format;
  TrainedMasks masks;
  fields.read("format", format);
  fields.read("min_area", masks.min_area);
  fields.refuse_unknown();
  masks.rules = MaskRules::parse(format, classes);
  require(masks.min_area >= 0, "masks: min_area: expected a whole number from 0, found {}",
          masks.min_area);
  return masks;
}

}  // namespace

ModelConfig model_config_from_json(const nlohmann::json& object, const std::string& file) {
  ModelConfig config;
  try {
    JsonFields fields(object, kModelKey);
    int format = kModelFormat;
    fields.read("format", format, kModelFormat, kModelFormat);
    std::string architecture;
    fields.read("architecture", architecture);
    require(architecture == "unet" || architecture == "graph" || architecture == "han",
            "architecture: expected \"unet\", \"graph\" or \"han\", found {}",
            JsonFields::shown(architecture));
    const nlohmann::json& network = fields.take_required(architecture.c_str());
    const nlohmann::json* const names = fields.take("classes");
    std::size_t classes = 0;
    if (architecture != "han") {
      if (architecture == "unet") {
        config.unet = unet_config_from_json(network);
        classes = static_cast<std::size_t>(config.unet->classes);
      } else {
        config.graph = ImageNetwork{network_from_json(network)};
        if (const nlohmann::json* value = fields.take("sizes")) read_sizes(*value, *config.graph);
        classes = static_cast<std::size_t>(check_segmentation(*config.graph));
        if (classes == 0) classes = named_classes(names);
      }
      // A single sigmoid tells two classes apart.
      classes = std::max(classes, std::size_t{2});
      const std::int64_t channels = image_channels(config);
      config.preprocessing = preprocessing_from_json({{"channels", channels}});
      if (const nlohmann::json* value = fields.take("preprocessing"))
        config.preprocessing = preprocessing_from_json(*value);
      if (const nlohmann::json* value = fields.take("masks"))
        config.masks = masks_from_json(*value, classes);
      require(config.preprocessing.channels == channels,
              "preprocessing makes {} channels, the network reads {}",
              config.preprocessing.channels, channels);
    } else {
      config.han = han_config_from_json(network);
      classes = static_cast<std::size_t>(config.han->classes);
      if (const nlohmann::json* value = fields.take("text"))
        config.text = text_rules_from_json(*value);
      config.text.max_sentences = config.han->max_sentences;
      config.text.max_words = config.han->max_words;
    }
    config.classes = classes_from_json(names, classes);
    if (const nlohmann::json* value = fields.take("provenance")) {
      require(value->is_object(), "provenance: expected an object, found {}", value->type_name());
      config.provenance = *value;
    }
    fields.refuse_unknown();
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
  return config;
}

nlohmann::json to_json(const ModelConfig& config) {
  nlohmann::json object = {{"format", kModelFormat}, {"architecture", config.architecture()}};
  if (config.unet) object["unet"] = to_json(*config.unet);
  if (config.graph) {
    object["graph"] = to_json(config.graph->network);
    object["sizes"] = sizes_to_json(*config.graph);
  }
  if (config.is_of_images()) {
    object["preprocessing"] = to_json(config.preprocessing);
    if (config.masks) {
      object["masks"] = {{"format", config.masks->rules.to_string()},
                         {"min_area", config.masks->min_area}};
    }
  } else {
    object["han"] = to_json(*config.han);
    object["text"] = to_json(config.text);
  }
  for (const ModelClass& one : config.classes)
    object["classes"].push_back({{"name", one.name}, {"colour", one.colour}});
  object["provenance"] = config.provenance;
  return object;
}

nlohmann::json metadata_json(const Weights& weights, const std::string& key,
                             const std::string& advice) {
  const std::optional<std::string> text = weights.metadata(key);
  require(text.has_value(), "{}: a safetensors file without the metadata \"{}\"; {}",
          weights.file(), key, advice);
  try {
    // Nothing deeper is known to any format here, and copying a JSON value recurses.
    check_json_limits(*text, kMaxNesting);
    return parse_json(*text);
  } catch (const Error& error) {
    fail("{}: the metadata \"{}\": {}", weights.file(), key, error.what());
  }
}

ModelFile ModelFile::open(const std::filesystem::path& path) {
  Weights weights = Weights::open(path);
  const nlohmann::json object =
      metadata_json(weights, kModelKey,
                    "nothing says what network it is: convert it as tools/export_pytorch_models.py "
                    "does");
  ModelFile file{model_config_from_json(object, path.string()), std::move(weights), std::nullopt};
  if (file.config.han) {
    const TensorView blob = file.weights.take_any_shape(kVocabularyName);
    require(blob.type.dtype == DType::kU8, "{}: the tensor \"vocabulary\" is {}, expected u8",
            path.string(), blob.type);
    file.vocabulary =
        Vocabulary::from_blob({blob.as<char>(), static_cast<std::size_t>(blob.shape().elements())});
    require(file.vocabulary->size() <= file.config.han->words,
            "{}: the vocabulary has {} ids, the embedding {} rows", path.string(),
            file.vocabulary->size(), file.config.han->words);
  }
  return file;
}

std::vector<TensorType> example_inputs(const ModelConfig& config) {
  if (config.unet) {
    const std::int64_t size = unet_input_size(*config.unet, 1);
    return {{DType::kF32, {1, size, size, config.unet->channels}}};
  }
  if (config.graph) return {image_sizes(config).least()};
  const HanConfig& han = *config.han;
  std::vector<TensorType> inputs{{DType::kI32, {1, han.max_sentences, han.max_words}}};
  if (han.masked) {
    inputs.push_back({DType::kI32, {1, han.max_sentences}});
    inputs.push_back({DType::kI32, {1}});
  }
  return inputs;
}

Graph build_network(const ModelConfig& config) {
  if (config.graph) return config.graph->network.graph;
  return config.unet ? build_unet(*config.unet, true) : build_han(*config.han);
}

std::int64_t image_channels(const ModelConfig& config) {
  return config.unet ? config.unet->channels : config.graph->network.channels.at(0);
}

Graph segmentation_graph(const ModelConfig& config, bool probabilities) {
  return config.unet ? build_unet(*config.unet, probabilities)
                     : segmentation_graph(config.graph->network, probabilities);
}

ImageSizes image_sizes(const ModelConfig& config) {
  return {segmentation_graph(config, false), image_channels(config),
          config.graph ? config.graph->multiple : 1};
}

namespace {

// Weight names and shapes of the network.
std::map<std::string, Shape> expected_weights(const ModelConfig& config) {
  const Graph graph = build_network(config);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  std::map<std::string, Shape> expected;
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types)))
      expected.emplace(weight_name(node, parameter.name), parameter.shape);
  }
  return expected;
}

}  // namespace

void save_model(const std::filesystem::path& path, const ModelConfig& config,
                const TensorViews& weights, const std::optional<Vocabulary>& vocabulary,
                WeightStorage storage) {
  std::string text;
  ModelConfig read;  // what a reader will make of it
  try {
    text = to_json(config).dump();
    read = model_config_from_json(nlohmann::json::parse(text), path.string());
  } catch (const nlohmann::json::exception& error) {
    fail("{}: a class name or another text of the model is not UTF-8: {}", path.string(),
         error.what());
  }
  require(vocabulary.has_value() == read.han.has_value(), "{}: {}", path.string(),
          read.han ? "a HAN needs its vocabulary" : "a model of images has no vocabulary");
  require(!vocabulary || vocabulary->size() <= read.han->words,
          "{}: the vocabulary has {} ids, the embedding {} rows", path.string(),
          vocabulary ? vocabulary->size() : 0, read.han ? read.han->words : 0);

  const std::map<std::string, Shape> expected = expected_weights(read);
  TensorViews stored;
  std::map<std::string, std::vector<std::uint16_t>> narrow;
  for (const auto& [name, shape] : expected) {
    const auto found = weights.find(name);
    require(found != weights.end(), "{}: the weight {} is missing", path.string(), in_quotes(name));
    const TensorView& view = found->second;
    const TensorType type{DType::kF32, shape};
    require(view.type == type, "{}: the weight {} is {}, the network has {}", path.string(),
            in_quotes(name), view.type, type);
    require(all_finite(view), "{}: the weight {} holds numbers that are not finite", path.string(),
            in_quotes(name));
    if (storage == WeightStorage::kF32 || shape.rank() < 2) {
      stored.emplace(name, view);
      continue;
    }
    std::vector<std::uint16_t>& values = narrow[name];
    for (std::int64_t i = 0; i < shape.elements(); ++i)
      values.push_back(f32_to_bf16(view.as<const float>()[i]));
    stored.emplace(name, TensorView(values.data(), {DType::kBF16, shape}));
  }
  for (const auto& entry : weights) {
    require(expected.contains(entry.first), "{}: the network has no weight {}", path.string(),
            in_quotes(entry.first));
  }
  std::string blob;
  if (vocabulary) {
    blob = vocabulary->to_blob();
    stored.emplace(kVocabularyName,
                   TensorView(blob.data(), {DType::kU8, {static_cast<std::int64_t>(blob.size())}}));
  }
  write_safetensors(path, stored, {{kModelKey, text}});
}

}  // namespace tessera
