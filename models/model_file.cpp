#include "models/model_file.h"

#include "models/json_fields.h"

namespace tessera {

namespace {

constexpr const char* kMetadataKey = "tessera";
constexpr int kFormat = 1;
constexpr int kMaxDepth = 64;

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

}  // namespace

ModelConfig model_config_from_json(const nlohmann::json& object, const std::string& file) {
  ModelConfig config;
  try {
    JsonFields fields(object, kMetadataKey);
    int format = kFormat;
    fields.read("format", format, kFormat, kFormat);
    std::string architecture;
    fields.read("architecture", architecture);
    require(architecture == "unet" || architecture == "han",
            "architecture: expected \"unet\" or \"han\", found \"{}\"", architecture);
    const nlohmann::json& network = fields.take_required(architecture.c_str());
    std::size_t classes = 0;
    if (architecture == "unet") {
      config.unet = unet_config_from_json(network);
      // A single sigmoid tells two classes apart.
      classes = static_cast<std::size_t>(std::max(config.unet->classes, 2));
      config.preprocessing.channels = config.unet->channels;
      if (const nlohmann::json* value = fields.take("preprocessing"))
        config.preprocessing = preprocessing_from_json(*value);
      require(config.preprocessing.channels == config.unet->channels,
              "preprocessing makes {} channels, the network reads {}",
              config.preprocessing.channels, config.unet->channels);
    } else {
      config.han = han_config_from_json(network);
      classes = static_cast<std::size_t>(config.han->classes);
      if (const nlohmann::json* value = fields.take("text"))
        config.text = text_rules_from_json(*value);
      config.text.max_sentences = config.han->max_sentences;
      config.text.max_words = config.han->max_words;
    }
    config.classes = classes_from_json(fields.take("classes"), classes);
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
  nlohmann::json object = {{"format", kFormat}, {"architecture", config.architecture()}};
  if (config.unet) {
    object["unet"] = to_json(*config.unet);
    object["preprocessing"] = to_json(config.preprocessing);
  } else {
    object["han"] = to_json(*config.han);
    object["text"] = to_json(config.text);
  }
  for (const ModelClass& one : config.classes)
    object["classes"].push_back({{"name", one.name}, {"colour", one.colour}});
  object["provenance"] = config.provenance;
  return object;
}

ModelFile ModelFile::open(const std::filesystem::path& path) {
  Weights weights = Weights::open(path);
  const std::optional<std::string> text = weights.metadata(kMetadataKey);
  require(text.has_value(),
          "{}: a safetensors file without the metadata \"{}\", so nothing says what network it is; "
          "convert it as tools/export_demo_models.py does",
          path.string(), kMetadataKey);
  nlohmann::json object;
  try {
    // Nothing deeper is known to the format, and copying a JSON value recurses.
    object = nlohmann::json::parse(*text, [](int depth, auto, const nlohmann::json&) {
      require(depth <= kMaxDepth, "nested deeper than {} levels", kMaxDepth);
      return true;
    });
  } catch (const std::exception& error) {
    fail("{}: the metadata \"{}\" is no JSON: {}", path.string(), kMetadataKey, error.what());
  }
  ModelFile file{model_config_from_json(object, path.string()), std::move(weights), std::nullopt};
  if (file.config.han) {
    const TensorView blob = file.weights.take_any_shape("vocabulary");
    require(blob.type.dtype == DType::kU8, "{}: the tensor \"vocabulary\" is {}, expected u8",
            path.string(), blob.type.to_string());
    file.vocabulary =
        Vocabulary::from_blob({blob.as<char>(), static_cast<std::size_t>(blob.shape().elements())});
    require(file.vocabulary->size() <= file.config.han->words,
            "{}: the vocabulary has {} ids, the embedding {} rows", path.string(),
            file.vocabulary->size(), file.config.han->words);
  }
  return file;
}

}  // namespace tessera
