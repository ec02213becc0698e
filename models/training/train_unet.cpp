// train_unet of models/train.h.
#include <atomic>
#include <charconv>

#include "engine/device/machine.h"
#include "engine/files/digest.h"
#include "models/image/png.h"
#include "models/import/import.h"
#include "models/networks/registry.h"
#include "models/outputs.h"
#include "models/training/contact_sheet.h"
#include "models/training/fine_tuning.h"
#include "models/training/image_data.h"
#include "models/training/labelled_images.h"
#include "models/training/train_run.h"
#include "models/training/unet_training.h"

namespace tessera {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Images with their weight maps that stay in memory, at most; and of what is free, a share.
constexpr std::size_t kCacheBytes = std::size_t{2} << 30;
constexpr std::size_t kCacheShare = 4;
constexpr std::size_t kSheetTiles = 16;
constexpr int kSheetColumns = 4;

void check_image_options(const UNetTrainOptions& options) {
  constexpr double kMostChannels = 1 << 14, kMostTile = 1 << 16, kMostDropout = 0.99;
  check_options(options, "mean_iou");
  require_source(options.source);
  require_whole("--min-area", options.min_area.value_or(1), 0);
  require_number("--dropout", options.dropout, 0, kMostDropout);
  require_number("--norm-momentum", options.norm_momentum, 1e-6, 1);
  require_whole("--tile", options.tile, 1, kMostTile);
  require_whole("--tiles", options.tiles, 0);
  require_choice("--loss", options.loss, {"cross_entropy", "dice", "both"});
  require_number("--border-weight", options.border_weight);
  require_number("--border-sigma", options.border_sigma, 1e-3);
  require_whole("--channels", options.channels.value_or(1), 1, 3);
  require_whole("--depth", options.depth.value_or(1), 1, 8);
  require_whole("--base", options.base.value_or(1), 1, kMostChannels);
  const std::pair<const char*, bool> of_network[] = {
      {"--network", !options.network.empty()}, {"--channels", options.channels.has_value()},
      {"--scale", !options.scale.empty()},     {"--depth", options.depth.has_value()},
      {"--base", options.base.has_value()},    {"--padding", !options.padding.empty()},
      {"--norm", !options.norm.empty()},       {"--up", !options.up.empty()},
      {"--head", !options.head.empty()},       {"--up-relu", options.up_relu},
      {"--sigmoid", options.sigmoid}};
  for (const auto& [name, given] : of_network) {
    if (given && !options.from.empty())
      throw OptionError(
          fmt::format("{}: the network and its pixels are those of --from {}; leave it out", name,
                      options.from));
  }
}

// What an option says becomes an error of that option.
template <class Work>
void as_option(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    throw OptionError(error.what());
  }
}

// The model that is trained on, with what the options and the data decide: `options` get its
// classes and least object.
PretrainedNetwork begin_from(UNetTrainOptions& options, const TrainEvents& events) {
  ModelFile file = open_model(options.from, options.foreign,
                              [&](std::string_view line) { events.note(std::string(line)); });
  PretrainedNetwork made;
  try {
    made = pretrained_network(file);
  } catch (const Error& error) {
    fail("--from {}: {}", options.from, error.what());
  }
  ModelConfig& config = made.config;
  if (options.classes.empty()) {
    for (const ModelClass& one : config.classes) options.classes.push_back(one.name);
  }
  if (options.classes.size() != config.classes.size())
    throw OptionError(fmt::format("--classes: {} were named, but {} tells {} apart",
                                  options.classes.size(), options.from, config.classes.size()));
  for (std::size_t c = 0; c < config.classes.size(); ++c)
    config.classes[c].name = options.classes[c];
  if (config.masks && !options.min_area) options.min_area = config.masks->min_area;
  return made;
}

// The published network, or this program's own, with what is given besides.
ModelConfig model_config(const UNetTrainOptions& options) {
  ModelConfig config;
  const std::size_t classes = options.classes.size();
  if (options.sigmoid && classes != 2)
    throw OptionError(
        fmt::format("--sigmoid: one output tells two classes apart, not {}", classes));
  as_option([&] {
    const int channels = options.channels.value_or(1);
    json network =
        to_json(options.network.empty() ? UNetConfig{.padding = UNetConfig::Padding::kSame}
                                        : named_unet(options.network));
    network.update({{"channels", channels},
                    {"classes", options.sigmoid ? 1 : classes},
                    {"output", options.sigmoid ? "sigmoid" : "softmax"}});
    if (options.depth) network["depth"] = *options.depth;
    if (options.base) network["base"] = *options.base;
    if (options.up_relu) network["up_relu"] = true;
    const std::pair<const char*, const std::string*> texts[] = {{"padding", &options.padding},
                                                                {"norm", &options.norm},
                                                                {"up", &options.up},
                                                                {"head", &options.head}};
    for (const auto& [name, text] : texts) {
      if (!text->empty()) network[name] = *text;
    }
    config.unet = unet_config_from_json(network);
    config.preprocessing = preprocessing_from_json(
        {{"channels", channels}, {"scale", options.scale.empty() ? "unit" : options.scale}});
  });
  const std::vector<Rgb> colours = default_colours(static_cast<std::int64_t>(classes));
  for (std::size_t c = 0; c < classes; ++c)
    config.classes.push_back({options.classes[c], colours[c]});
  return config;
}

// Masks are meant as those were that a model was trained with, where they can be.
MaskHints mask_hints(const UNetTrainOptions& options, bool classes_are_known,
                     const ModelConfig& config) {
  MaskHints hints{.classes = options.classes.size(),
                  .classes_are_known = classes_are_known,
                  .trained = {},
                  .class_colours = {}};
  if (options.from.empty()) return hints;
  if (config.masks) hints.trained = config.masks->rules;
  for (const ModelClass& one : config.classes) hints.class_colours.push_back(one.colour);
  return hints;
}

// The model tells eval and segment what masks it learnt from.
void remember(const MaskRules& rules, std::int64_t min_area, ModelConfig& config) {
  config.masks = TrainedMasks{rules, min_area};
  if (rules.kind != MaskRules::Kind::kColours) return;
  for (std::size_t c = 0; c < config.classes.size(); ++c)
    config.classes[c].colour = rules.colours[c];
}

// As given; nothing for "balanced", which the data decide.
std::vector<float> given_class_weights(const UNetTrainOptions& options) {
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
    throw OptionError(
        fmt::format("--class-weights: expected 'balanced' or {} numbers from 0 with "
                    "commas between them; found '{}'",
                    options.classes.size(), options.class_weights));
  return weights;
}

// The model and the contact sheet are none of the files that they are made from.
void require_outputs_apart(const UNetTrainOptions& options, const ImagePairs& pairs) {
  std::vector<std::string> read{options.source.data, options.from};
  for (const ImagePair& pair : pairs) {
    if (pair.held_image) continue;
    read.push_back(pair.image.string());
    read.push_back(pair.mask.string());
  }
  require_no_input("-o", options.output, read);
  require_no_input("--contact-sheet", options.contact_sheet, read);
}

// As many tiles as cover the training images once.
std::int64_t covering_tiles(const std::vector<ImageStatistics>& statistics, const Split& split,
                            std::int64_t tile) {
  std::int64_t tiles = 0;
  for (const std::size_t i : split.training)
    tiles += (statistics[i].height * statistics[i].width + tile * tile - 1) / (tile * tile);
  return tiles;
}

void write_contact_sheet(const std::string& path, const UNetTraining& task) {
  std::vector<TrainingTile> tiles;
  for (std::size_t n = 0; n < kSheetTiles; ++n) tiles.push_back(task.sampler().tile(n));
  std::vector<Rgb> colours;
  for (const ModelClass& one : task.config().classes) colours.push_back(one.colour);
  write_png(path,
            contact_sheet(tiles, task.sampler().shape(),
                          static_cast<int>(image_channels(task.config())), colours, kSheetColumns));
}

void note_data(const UNetTrainOptions& options, const ModelConfig& config, const Split& split,
               const std::vector<ImageStatistics>& statistics,
               const std::vector<std::int64_t>& pixels, const TrainEvents& events) {
  events.note(fmt::format("{} images to train on, {} held out", split.training.size(),
                          split.validation.size()));
  double all = 0;
  for (const std::int64_t count : pixels) all += static_cast<double>(count);
  for (std::size_t c = 0; c < pixels.size(); ++c) {
    events.note(fmt::format("  {}: {:.2f} % of the pixels", options.classes[c],
                            100 * static_cast<double>(pixels[c]) / all));
  }
  std::size_t odd = 0;
  std::string_view note;
  for (const ImageStatistics& one : statistics) {
    if (one.range_note.empty()) continue;
    if (odd++ == 0) note = one.range_note;
  }
  if (odd > 0 && config.preprocessing.scale == Scale::kUnit && !config.preprocessing.range)
    events.note(fmt::format("{} of {} images: {}", odd, statistics.size(), note));
}

}  // namespace

TrainResult train_on_images(const UNetTrainOptions& given, const TrainEvents& events,
                            const std::shared_ptr<Ranks>& ranks) {
  check_image_options(given);
  UNetTrainOptions options = given;
  const bool classes_are_known = !options.classes.empty() || !options.from.empty();
  PretrainedNetwork begin;
  if (options.from.empty()) {
    if (options.classes.empty()) options.classes = {"background", "foreground"};
    begin.config = model_config(options);
  } else {
    begin = begin_from(options, events);
  }
  ModelConfig& config = begin.config;
  Augmentation augmentation;
  as_option([&] {
    if (!options.range.empty()) set_range(config.preprocessing, options.range);
    augmentation = augmentation_from_json(to_json(options.augmentation));
  });
  given_rules(options.source, options.classes.size());  // a wrong format is said before the walk
  const int threads = threads_of(options);
  WeightRules weights{.class_weights = given_class_weights(options)};
  if (options.border_weight > 0)
    weights.border = BorderWeight{options.border_weight, options.border_sigma};

  DataReport found;
  const ImagePairs pairs = find_pairs(options.source, found);
  require_outputs_apart(options, pairs);
  const MaskRules rules = mask_rules(
      options.source, pairs, mask_hints(options, classes_are_known, config), threads, found);
  std::atomic<bool> stopped = false;
  const std::vector<ImageStatistics> statistics =
      check_images(pairs, rules, threads, found, [&](std::size_t done) {
        events.data(static_cast<std::int64_t>(done), static_cast<std::int64_t>(pairs.size()));
        stopped = events.stop();
        return !stopped;
      });
  if (stopped) return {.end = TrainResult::End::kStopped};
  settle(found, events);
  remember(rules, options.min_area.value_or(1), config);
  const Split split = split_pairs(pairs, options.source, options.seed);
  require_validation(options, !split.validation.empty());
  const std::vector<std::int64_t> pixels = sum_class_pixels(statistics, split.training);
  note_data(options, config, split, statistics, pixels, events);

  if (options.class_weights == "balanced") weights.class_weights = balanced_class_weights(pixels);
  const auto sharers = static_cast<std::size_t>(ranks_beside(*ranks).machine);
  LabelledImages images(pairs, rules, config.preprocessing, weights,
                        std::min(kCacheBytes, available_bytes() / kCacheShare) / sharers);
  UNetTaskOptions training{.tile = options.tile,
                           .batch = options.batch,
                           .tiles = options.tiles,
                           .augmentation = augmentation,
                           .dropout = options.dropout,
                           .norm_momentum = options.norm_momentum,
                           .seed = options.seed,
                           .weights = std::move(begin.weights),
                           .pixels_digest = digest_of_pixels(statistics),
                           .threads = threads};
  training.loss.cross_entropy = options.loss == "dice" ? 0 : 1;
  training.loss.dice = options.loss == "cross_entropy" ? 0 : 1;
  if (training.tiles == 0) training.tiles = covering_tiles(statistics, split, options.tile);
  UNetTraining task(config, images, split, training);
  const TileShape& shape = task.sampler().shape();
  events.note(fmt::format("tiles of {} x {} pixels teach {} x {}; {} an epoch", shape.input_height,
                          shape.input_width, shape.output_height, shape.output_width,
                          training.tiles));
  if (!options.contact_sheet.empty() && ranks->is_first())
    write_contact_sheet(options.contact_sheet, task);
  const ImageDataOptions& source = options.source;
  return run_training(task, options,
                      {!source.pairs.empty()  ? "pixels"
                       : !source.data.empty() ? source.data
                                              : source.images},
                      events, ranks);
}

}  // namespace tessera
