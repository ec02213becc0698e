// One file is one model: tensors, and in the metadata key "tessera" a JSON text with architecture,
// preprocessing, classes and provenance. A HAN's vocabulary is the U8 tensor "vocabulary".
//
//   {"format": 1, "architecture": "unet" | "graph" | "han", "unet" | "graph" | "han": {...},
//    "preprocessing": {...} (images), "text": {...} (han),
//    "sizes": {"multiple": 32} (graph: engine/graph/graph_file.h),
//    "masks": {"format": "objects", "min_area": 15} (images, where it was trained here),
//    "classes": [{"name": "cell", "colour": [r, g, b]}, ...], "provenance": {...}}
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/files/weights.h"
#include "engine/train/float_tensor.h"
#include "models/image/image.h"
#include "models/image/mask.h"
#include "models/image/mask_rules.h"
#include "models/networks/han.h"
#include "models/networks/image_network.h"
#include "models/networks/unet.h"
#include "models/text/text.h"

namespace tessera {

// The metadata key of a model file's JSON.
inline constexpr const char* kModelKey = "tessera";

struct ModelClass {
  std::string name;
  Rgb colour{};
};

// How the masks are read that a network was trained with, and its least object.
struct TrainedMasks {
  MaskRules rules;
  std::int64_t min_area = 1;  // pixels; smaller ones are specks
};

struct ModelConfig {
  std::optional<UNetConfig> unet;  // exactly one of the three
  std::optional<HanConfig> han;
  std::optional<ImageNetwork> graph;
  Preprocessing preprocessing;  // of an image
  TextRules text;               // of a document
  std::vector<ModelClass> classes;
  std::optional<TrainedMasks> masks;
  nlohmann::json provenance = nlohmann::json::object();

  const char* architecture() const { return unet ? "unet" : graph ? "graph" : "han"; }
  bool is_of_images() const { return !han; }
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

// Input types of the smallest size that the network of `config` takes: they settle the shapes of
// its weights.
std::vector<TensorType> example_inputs(const ModelConfig& config);

// The unfused network of `config`, with all that it gives.
Graph build_network(const ModelConfig& config);

// Of a model of images, its input's channels; the unfused network that segments, as
// segmentation_graph of models/networks/image_network.h; and the sizes that it takes.
std::int64_t image_channels(const ModelConfig& config);
Graph segmentation_graph(const ModelConfig& config, bool probabilities);
ImageSizes image_sizes(const ModelConfig& config);

enum class WeightStorage {
  kF32,
  kBF16,  // half the bytes; vectors (biases, norms, attention's contexts) stay f32, which costs
          // little
};

// Writes a file that ModelFile::open reads, atomically: equal content gives equal bytes. `weights`
// are f32, exactly those of the network; a HAN has a vocabulary, a model of images none. Throws
// Error naming the tensor that is missing, left over, of another shape or not finite, where
// `config` contradicts itself or the vocabulary, and where the file cannot be written; an older
// file is then still there.
void save_model(const std::filesystem::path& path, const ModelConfig& config,
                const TensorViews& weights, const std::optional<Vocabulary>& vocabulary,
                WeightStorage storage = WeightStorage::kF32);

// A metadata text of a safetensors file as JSON. Throws Error where it is missing (`advice` says
// what to do) or no JSON of reasonable depth.
nlohmann::json metadata_json(const Weights& weights, const std::string& key,
                             const std::string& advice);

}  // namespace tessera
