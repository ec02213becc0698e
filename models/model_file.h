// One file is one model: tensors, and in the metadata key "tessera" a JSON text with architecture,
// preprocessing, classes and provenance. A HAN's vocabulary is the U8 tensor "vocabulary".
//
//   {"format": 1, "architecture": "unet" | "han", "unet" | "han": {...},
//    "preprocessing": {...} (unet), "text": {...} (han),
//    "classes": [{"name": "cell", "colour": [r, g, b]}, ...], "provenance": {...}}
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/weights.h"
#include "models/han.h"
#include "models/image.h"
#include "models/mask.h"
#include "models/text.h"
#include "models/unet.h"

namespace tessera {

struct ModelClass {
  std::string name;
  Rgb colour{};
};

struct ModelConfig {
  std::optional<UNetConfig> unet;  // exactly one of the two
  std::optional<HanConfig> han;
  Preprocessing preprocessing;  // of an image
  TextRules text;               // of a document
  std::vector<ModelClass> classes;
  nlohmann::json provenance = nlohmann::json::object();

  const char* architecture() const { return unet ? "unet" : "han"; }
};

// Throws Error for unknown keys, contradictions (class names against the class count, channels
// against preprocessing) and versions it does not know. `file` names the source in errors.
ModelConfig model_config_from_json(const nlohmann::json& object, const std::string& file);
nlohmann::json to_json(const ModelConfig& config);

struct ModelFile {
  ModelConfig config;
  Weights weights;
  std::optional<Vocabulary> vocabulary;  // of a HAN

  static ModelFile open(const std::filesystem::path& path);
};

}  // namespace tessera
