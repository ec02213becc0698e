// `tessera train unet`.
#include <charconv>

#include "engine/device/machine.h"
#include "models/image/png.h"
#include "models/import/import.h"
#include "models/training/contact_sheet.h"
#include "models/training/fine_tuning.h"
#include "models/training/labelled_images.h"
#include "models/training/unet_training.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"
#include "tools/program/train.h"

namespace tessera {

using nlohmann::json;

namespace {

// Images with their weight maps that stay in memory, at most; and of what is free, a share.
constexpr std::size_t kCacheBytes = std::size_t{2} << 30;
constexpr std::size_t kCacheShare = 4;
constexpr std::size_t kSheetTiles = 16;
constexpr int kSheetColumns = 4;

// The model that is trained on, with what the options and the data decide: `options` get its
// classes and channels.
PretrainedNetwork begin_from(ImageTrainOptions& options) {
  for (const CLI::Option* option : options.network_options) {
    if (option->count() > 0)
      throw UsageError(
          fmt::format("{}: the network and its pixels are those of --from {}; leave "
                      "it out",
                      option->get_name(), options.from));
  }
  const bool quiet = options.run.report.quiet;
  ModelFile file = open_model(options.from, options.foreign.read(), [&](std::string_view line) {
    if (!quiet) fmt::print(stderr, "{}\n", line);
  });
  PretrainedNetwork made;
  try {
    made = pretrained_network(file);
  } catch (const Error& error) {
    fail("--from {}: {}", options.from, error.what());
  }
  ModelConfig& config = made.config;
  if (!options.classes_are_given()) {
    options.classes.clear();
    for (const ModelClass& one : config.classes) options.classes.push_back(one.name);
  }
  if (options.classes.size() != config.classes.size())
    throw UsageError(fmt::format("--classes: {} were named, but {} tells {} apart",
                                 options.classes.size(), options.from, config.classes.size()));
  for (std::size_t c = 0; c < config.classes.size(); ++c)
    config.classes[c].name = options.classes[c];
  try {
    if (!options.range.empty()) set_range(config.preprocessing, options.range);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  options.channels = static_cast<int>(image_channels(config));
  if (config.masks && options.min_area == ImageTrainOptions().min_area)
    options.min_area = config.masks->min_area;
  return made;
}

ModelConfig model_config(const ImageTrainOptions& options) {
  ModelConfig config;
  const std::size_t classes = options.classes.size();
  if (options.sigmoid && classes != 2)
    throw UsageError(fmt::format("--sigmoid: one output tells two classes apart, not {}", classes));
  try {
    json network = to_json(options.network.empty() ? UNetConfig() : named_unet(options.network));
    network.update({{"depth", options.depth},
                    {"base", options.base},
                    {"channels", options.channels},
                    {"classes", options.sigmoid ? 1 : classes},
                    {"padding", options.padding},
                    {"norm", options.norm},
                    {"up", options.up},
                    {"up_relu", options.up_relu},
                    {"head", options.head},
                    {"output", options.sigmoid ? "sigmoid" : "softmax"}});
    config.unet = unet_config_from_json(network);
    config.preprocessing =
        preprocessing_from_json({{"channels", options.channels}, {"scale", options.scale}});
    if (!options.range.empty()) set_range(config.preprocessing, options.range);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  const std::vector<Rgb> colours = default_colours(static_cast<std::int64_t>(classes));
  for (std::size_t c = 0; c < classes; ++c)
    config.classes.push_back({options.classes[c], colours[c]});
  return config;
}

// Masks are meant as those were that a model was trained with, where they can be.
MaskHints mask_hints(const ImageTrainOptions& options, const ModelConfig& config) {
  MaskHints hints{.classes = options.classes.size(),
                  .classes_are_known = options.classes_are_given() || !options.from.empty(),
                  .trained = {},
                  .class_colours = {}};
  if (options.from.empty()) return hints;
  if (config.masks) hints.trained = config.masks->rules;
  for (const ModelClass& one : config.classes) hints.class_colours.push_back(one.colour);
  return hints;
}

// The model tells eval and segment what masks it learnt from.
void remember(const MaskRules& rules, const ImageTrainOptions& options, ModelConfig& config) {
  config.masks = TrainedMasks{rules, options.min_area};
  if (rules.kind != MaskRules::Kind::kColours) return;
  for (std::size_t c = 0; c < config.classes.size(); ++c)
    config.classes[c].colour = rules.colours[c];
}

// As given; nothing for "balanced", which the data decide.
std::vector<float> given_class_weights(const ImageTrainOptions& options) {
  std::vector<float> weights;
  if (options.class_weights.empty() || options.class_weights == "balanced") return weights;
  const char* at = options.class_weights.data();
  const char* const end = at + options.class_weights.size();
  while (at < end) {
    float weight = 0;
    const auto [stop, error] = std::from_chars(at, end, weight);
    if (error != std::errc() || !(weight >= 0) || (stop < end && *stop != ',')) break;
    weights.push_back(weight);
    at = stop < end ? stop + 1 : stop;
  }
  if (at < end || weights.size() != options.classes.size())
    throw UsageError(
        fmt::format("--class-weights: expected 'balanced' or {} numbers from 0 with "
                    "commas between them; found '{}'",
                    options.classes.size(), options.class_weights));
  return weights;
}

// The model and the contact sheet are none of the files that they are made from.
void require_outputs_apart(const ImageTrainOptions& options, const ImagePairs& pairs) {
  std::vector<std::string> read{options.data, options.run.recipe, options.from};
  for (const ImagePair& pair : pairs) {
    read.push_back(pair.image.string());
    read.push_back(pair.mask.string());
  }
  require_no_input("-o", options.run.output, read);
  require_no_input("--contact-sheet", options.contact_sheet, read);
}

Augmentation augmentation_of(const ImageTrainOptions& options) {
  if (options.plain) return Augmentation::none();
  try {
    return augmentation_from_json(to_json(options.augmentation));
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

// As many tiles as cover the training images once.
std::int64_t covering_tiles(const std::vector<ImageStatistics>& statistics, const Split& split,
                            std::int64_t tile) {
  std::int64_t tiles = 0;
  for (const std::size_t i : split.training)
    tiles += (statistics[i].height * statistics[i].width + tile * tile - 1) / (tile * tile);
  return tiles;
}

void write_contact_sheet(const ImageTrainOptions& options, const UNetTraining& task) {
  std::vector<TrainingTile> tiles;
  for (std::size_t n = 0; n < kSheetTiles; ++n) tiles.push_back(task.sampler().tile(n));
  std::vector<Rgb> colours;
  for (const ModelClass& one : task.config().classes) colours.push_back(one.colour);
  write_png(options.contact_sheet,
            contact_sheet(tiles, task.sampler().shape(), options.channels, colours, kSheetColumns));
}

}  // namespace

int train_on_images(const ImageTrainOptions& given) {
  ImageTrainOptions options = given;
  PretrainedNetwork begin;
  if (options.from.empty())
    begin.config = model_config(options);
  else
    begin = begin_from(options);
  ModelConfig& config = begin.config;
  options.source.given_rules(options.classes.size());  // a wrong format is said before the walk
  const Augmentation augmentation = augmentation_of(options);
  const int threads = options.run.thread_count();
  WeightRules weights{.class_weights = given_class_weights(options)};
  if (options.border_weight > 0)
    weights.border = BorderWeight{options.border_weight, options.border_sigma};

  DataReport found;
  const ImagePairs pairs = options.source.find(options.data, found);
  require_outputs_apart(options, pairs);
  const MaskRules rules =
      options.source.mask_rules(pairs, mask_hints(options, config), threads, found);
  Report report(options.run.report, "images", pairs.size());
  const std::vector<ImageStatistics> statistics =
      check_images(pairs, rules, threads, found,
                   [&](std::size_t done) { report.advance(static_cast<double>(done)); });
  settle(found, report);
  remember(rules, options, config);
  const Split split = options.source.split(pairs);
  options.run.require_validation(!split.validation.empty());
  const std::vector<std::int64_t> pixels = sum_class_pixels(statistics, split.training);
  report.note(fmt::format("{} images to train on, {} held out", split.training.size(),
                          split.validation.size()));
  double all = 0;
  for (const std::int64_t count : pixels) all += static_cast<double>(count);
  for (std::size_t c = 0; c < pixels.size(); ++c) {
    report.note(fmt::format("  {}: {:.2f} % of the pixels", options.classes[c],
                            100 * static_cast<double>(pixels[c]) / all));
  }

  std::size_t odd = 0;
  std::string_view note;
  for (const ImageStatistics& one : statistics) {
    if (one.range_note.empty()) continue;
    if (odd++ == 0) note = one.range_note;
  }
  if (odd > 0 && config.preprocessing.scale == Scale::kUnit && !config.preprocessing.range)
    report.note(fmt::format("{} of {} images: {}", odd, statistics.size(), note));

  if (options.class_weights == "balanced") weights.class_weights = balanced_class_weights(pixels);
  LabelledImages images(pairs, rules, config.preprocessing, weights,
                        std::min(kCacheBytes, available_bytes() / kCacheShare));
  UNetTrainingOptions training{.tile = options.tile,
                               .batch = options.run.batch,
                               .tiles = options.tiles,
                               .augmentation = augmentation,
                               .dropout = options.dropout,
                               .norm_momentum = options.norm_momentum,
                               .seed = options.source.seed,
                               .weights = std::move(begin.weights),
                               .pixels_digest = digest_of_pixels(statistics),
                               .threads = threads};
  training.loss.cross_entropy = options.loss == "dice" ? 0 : 1;
  training.loss.dice = options.loss == "cross_entropy" ? 0 : 1;
  if (training.tiles == 0) training.tiles = covering_tiles(statistics, split, options.tile);
  UNetTraining task(config, images, split, training);
  const TileShape& shape = task.sampler().shape();
  report.note(fmt::format("tiles of {} x {} pixels teach {} x {}; {} an epoch", shape.input_height,
                          shape.input_width, shape.output_height, shape.output_width,
                          training.tiles));
  if (!options.contact_sheet.empty()) write_contact_sheet(options, task);
  if (options.run.check) return kExitDone;
  const std::string name = options.data.empty() ? options.source.images : options.data;
  return run_training(task, options.run,
                      options.run.training_options(task, {name}, options.source.seed));
}

}  // namespace tessera
