#include "models/training/unet_training.h"

#include <algorithm>
#include <cmath>

#include "engine/passes/passes.h"
#include "engine/train/initialise.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "models/training/confusion_matrix.h"

namespace tessera {

using nlohmann::json;

namespace {

double loss_of(const Loss& loss, const TensorView& logits, const TrainingTile& tile, int threads) {
  const Shape& shape = logits.shape();
  const TensorView labels{const_cast<std::uint8_t*>(tile.classes.data()),
                          {DType::kU8, {shape[0], shape[1], shape[2]}}};
  const LossStep step = cpu(loss, logits.type, labels.type, threads);
  AlignedBuffer scratch(step.scratch_bytes);
  return step
      .run({.logits = logits, .labels = labels, .weights = tile.weights.data()}, scratch.get())
      .loss;
}

// `graph` with dropout of what the deepest level gives, before it is up-sampled.
Graph with_dropout(Graph graph, double rate) {
  if (rate == 0) return graph;
  for (auto node = graph.nodes.begin(); node != graph.nodes.end(); ++node) {
    if (!std::holds_alternative<Upsample>(node->op) &&
        !std::holds_alternative<ConvTranspose>(node->op) &&
        !std::holds_alternative<Resize>(node->op))
      continue;
    const ValueId dropped = graph.values.size();
    graph.values.push_back("bottom/dropout");
    Node dropout{"bottom/dropout", Dropout{rate}, {node->inputs[0]}, {dropped}};
    node->inputs[0] = dropped;
    graph.nodes.insert(node, std::move(dropout));
    return graph;
  }
  fail("the network has no up-sampling, so no place for dropout");
}

json settings_of(const WeightRules& rules) {
  return {{"classes", rules.class_weights},
          {"border", rules.border ? json{rules.border->w0, rules.border->sigma} : json()}};
}

}  // namespace

bool ends_in_sigmoid(const ModelConfig& config) {
  const Graph graph = segmentation_graph(config, true);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  const ValueId probabilities = graph.outputs.at(1);
  for (const Node& node : graph.nodes) {
    if (node.outputs[0] != probabilities) continue;
    if (std::holds_alternative<Softmax>(node.op)) return false;
    const auto* activation = std::get_if<Activation>(&node.op);
    if (activation != nullptr && activation->kind == Activation::Kind::kSigmoid &&
        types[probabilities].shape[-1] == 1)
      return true;
  }
  fail("the network ends in '{}', expected a softmax, or a sigmoid of one output, to train it",
       graph.values[probabilities]);
}

TileShape tile_shape(const ModelConfig& config, std::int64_t output) {
  if (config.unet) {
    const std::int64_t input = unet_input_size(*config.unet, output);
    const std::int64_t gives = *unet_output_size(*config.unet, input);
    return {input, input, gives, gives};
  }
  const ImageSizes sizes = image_sizes(config);
  const auto along = [&](int axis) {
    constexpr int kTried = 64;  // a stride of a power of two, and all its remainders
    std::int64_t input = sizes.input(axis, output);
    for (int tried = 0; tried < kTried; ++tried, input = sizes.next(axis, input + 1)) {
      const std::int64_t gives = *sizes.output(axis, input);
      if (input - gives == 2 * sizes.margin(axis)) return std::pair{input, gives};
    }
    fail(
        "for {} pixels the network gives {}, which lie nowhere in their middle; train one whose "
        "borders are padded alike",
        input, *sizes.output(axis, input));
  };
  const auto [height, gives_height] = along(0);
  const auto [width, gives_width] = along(1);
  return {height, width, gives_height, gives_width};
}

UNetTraining::UNetTraining(ModelConfig config, LabelledImages& images, Split split,
                           const UNetTaskOptions& options)
    : config_(std::move(config)),
      images_(images),
      split_(std::move(split)),
      options_(options),
      sampler_(images, split_.training, tile_shape(config_, options.tile), options.augmentation,
               options.seed),
      sigmoid_(ends_in_sigmoid(config_)) {
  require(options.dropout >= 0 && options.dropout < 1,
          "dropout: expected a share from 0 to below 1, found {}", options.dropout);
  require(options.norm_momentum > 0 && options.norm_momentum <= 1,
          "norm_momentum: expected a share above 0 and to 1, found {}", options.norm_momentum);
  if (options_.tiles == 0) options_.tiles = static_cast<std::int64_t>(split_.training.size());
}

Graph UNetTraining::graph() const {
  Graph graph = with_dropout(segmentation_graph(config_, false), options_.dropout);
  for (Node& node : graph.nodes) {
    if (auto* norm = std::get_if<BatchNorm>(&node.op)) norm->momentum = options_.norm_momentum;
  }
  return training_graph(graph);
}

FloatTensors UNetTraining::initial_weights() const {
  FloatTensors weights = tessera::initial_weights(
      segmentation_graph(config_, false), example_inputs(config_), options_.seed, options_.threads);
  for (const auto& [name, given] : options_.weights) {
    const auto found = weights.find(name);
    require(found != weights.end() && found->second.shape == given.shape,
            "the weight '{}' of {} to begin with is none of the network's", name, given.shape);
    found->second = given;
  }
  return weights;
}

json UNetTraining::settings() const {
  json names = json::array(), held_out = json::array();
  for (const std::size_t i : split_.training) names.push_back(images_.pair(i).name);
  for (const std::size_t i : split_.validation) held_out.push_back(images_.pair(i).name);
  return {{"training", std::move(names)},
          {"validation", std::move(held_out)},
          {"tile", sampler_.shape().output_height},
          {"batch", options_.batch},
          {"tiles", options_.tiles},
          {"augmentation", to_json(options_.augmentation)},
          {"masks", images_.rules().to_string()},
          {"pixels_digest", options_.pixels_digest},
          {"weights", settings_of(images_.weights())},
          {"cross_entropy", options_.loss.cross_entropy},
          {"dice", options_.loss.dice},
          {"dropout", options_.dropout},
          {"norm_momentum", options_.norm_momentum},
          {"seed", options_.seed}};
}

std::int64_t UNetTraining::batches() const {
  return (options_.tiles + options_.batch - 1) / options_.batch;
}

TensorType UNetTraining::batch_type() const {
  const TileShape& shape = sampler_.shape();
  return {DType::kF32, {options_.batch, shape.input_height, shape.input_width, images_.channels()}};
}

void UNetTraining::Batch::append(const TrainingTile& tile) {
  images.insert(images.end(), tile.image.begin(), tile.image.end());
  classes.insert(classes.end(), tile.classes.begin(), tile.classes.end());
  weights.insert(weights.end(), tile.weights.begin(), tile.weights.end());
}

UNetTraining::Batch UNetTraining::make_batch(std::int64_t number) const {
  const std::int64_t epoch = number / batches(), begin = number % batches() * options_.batch;
  Batch batch{.number = number, .count = std::min(options_.batch, options_.tiles - begin)};
  std::vector<TrainingTile> tiles(static_cast<std::size_t>(batch.count));
  parallel_for(options_.threads, batch.count, [&](std::int64_t i) {
    tiles[static_cast<std::size_t>(i)] =
        sampler_.tile(static_cast<std::uint64_t>(epoch * options_.tiles + begin + i));
  });
  for (const TrainingTile& tile : tiles) batch.append(tile);
  return batch;
}

LossResult UNetTraining::add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) {
  const std::int64_t number = epoch * batches() + batch;
  Batch tiles;
  if (ahead_.valid()) tiles = ahead_.get();
  if (tiles.number != number) tiles = make_batch(number);
  // On a CPU the threads have work of their own.
  if (!gradients.device().is_host())
    ahead_ = std::async(std::launch::async, [this, number] { return make_batch(number + 1); });

  TensorType type = batch_type();
  type.shape[0] = tiles.count;
  const TensorView input{tiles.images.data(), type};
  const Shape labels{tiles.count, sampler_.shape().output_height, sampler_.shape().output_width};
  return gradients.add({&input, 1},
                       {.loss = options_.loss,
                        .labels = {tiles.classes.data(), {DType::kU8, labels}},
                        .weights = tiles.weights.data()},
                       {options_.seed, static_cast<std::uint64_t>(number)});
}

std::optional<Evaluation> UNetTraining::validate(const TensorViews& weights, const Device& device,
                                                 Ranks& ranks) {
  if (split_.validation.empty()) return std::nullopt;
  Executor executor = make_evaluator(config_, segmentation_graph(config_, true), weights, device);
  const TileShape& shape = sampler_.shape();
  const TensorType input_type{DType::kF32,
                              {1, shape.input_height, shape.input_width, images_.channels()}};
  const std::vector<TensorType> types = executor.output_types({&input_type, 1});
  std::vector<std::uint8_t> mask(types[0].bytes());
  FloatTensor probabilities(types[1].shape);
  const std::vector<TensorView> outputs{{mask.data(), types[0]}, probabilities.view()};

  // The class of a pixel without weight is none.
  ConfusionMatrix confusion(config_.classes.size());
  struct TileLoss {
    std::size_t image = 0;
    double loss = 0, weight = 0;
  };
  std::vector<TileLoss> tiles;
  for (std::size_t i = 0; i < split_.validation.size(); ++i) {
    if (!is_own(ranks, i)) continue;
    const std::size_t index = split_.validation[i];
    LabelledSlide* const slide = images_.slide(index);
    std::shared_ptr<const LabelledImage> image;
    if (slide == nullptr) image = images_.load(index);
    const std::int64_t height = slide != nullptr ? slide->height() : image->height;
    const std::int64_t width = slide != nullptr ? slide->width() : image->width;
    for (const TilePlace& place : covering_places(height, width, shape)) {
      if (slide != nullptr)
        image = std::make_shared<const LabelledImage>(
            slide->part(part_of_tile(height, width, shape, place)));
      TrainingTile tile = plain_tile(*image, shape, place);
      const TensorView input{tile.image.data(), input_type};
      executor.run({&input, 1}, outputs);
      // The softmax of log p is p, and so the loss on logits takes probabilities too.
      constexpr float kLeast = 1e-30f;
      for (float& p : probabilities.values) {
        p = sigmoid_ ? std::log(std::max(p, kLeast)) - std::log(std::max(1 - p, kLeast))
                     : std::log(std::max(p, kLeast));
      }
      double sum = 0;
      std::vector<std::uint8_t> truth = tile.classes;
      for (std::size_t p = 0; p < truth.size(); ++p) {
        sum += tile.weights[p];
        if (tile.weights[p] == 0) truth[p] = kIgnoredClass;
      }
      confusion.add(truth, mask, kIgnoredClass);
      tiles.push_back(
          {i, sum * loss_of(options_.loss, probabilities.view(), tile, options_.threads), sum});
    }
  }
  add_ranks(confusion, ranks);
  tiles = gather_values(ranks, tiles);
  std::ranges::stable_sort(tiles, {}, &TileLoss::image);
  double loss = 0, weight = 0;
  for (const TileLoss& tile : tiles) {
    loss += tile.loss;
    weight += tile.weight;
  }
  require(weight > 0, "no pixel of the validation images has a class");
  Evaluation evaluation{loss / weight, confusion.accuracy()};
  for (std::size_t c = 0; c < config_.classes.size(); ++c)
    evaluation.more["iou"][config_.classes[c].name] = confusion.iou(c);
  evaluation.more["mean_iou"] = confusion.mean(&ConfusionMatrix::iou);
  return evaluation;
}

}  // namespace tessera
