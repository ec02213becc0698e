#include "models/unet_training.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "engine/initialise.h"
#include "engine/passes.h"
#include "kernels/cpu/convert.h"
#include "models/confusion_matrix.h"

namespace tessera {

using nlohmann::json;

namespace {

// Tiles as the network reads them.
struct TileBatch {
  std::vector<float> images;  // (n, input height, input width, channels)
  std::vector<std::uint8_t> classes;
  std::vector<float> weights;  // both (n, output height, output width)

  void append(const TrainingTile& tile) {
    images.insert(images.end(), tile.image.begin(), tile.image.end());
    classes.insert(classes.end(), tile.classes.begin(), tile.classes.end());
    weights.insert(weights.end(), tile.weights.begin(), tile.weights.end());
  }
};

double loss_of(const Loss& loss, const TensorView& logits, TileBatch& batch, float* gradient,
               int threads) {
  const Shape& shape = logits.shape();
  const TensorView labels{batch.classes.data(), {DType::kU8, {shape[0], shape[1], shape[2]}}};
  const LossStep step = cpu(loss, logits.type, labels.type, threads);
  AlignedBuffer scratch(step.scratch_bytes);
  return step.run(
      {.logits = logits, .labels = labels, .weights = batch.weights.data(), .gradient = gradient},
      scratch.get());
}

// The class of the greatest logit; of one logit, whether it is positive.
std::size_t class_of(const float* logits, std::size_t classes) {
  if (classes == 1) return logits[0] > 0 ? 1 : 0;
  return static_cast<std::size_t>(std::max_element(logits, logits + classes) - logits);
}

}  // namespace

TileShape tile_shape(const UNetConfig& config, std::int64_t output) {
  const std::int64_t input = unet_input_size(config, output);
  const std::int64_t gives = *unet_output_size(config, input);
  return {input, input, gives, gives};
}

UNetTraining::UNetTraining(ModelConfig config, LabelledImages& images, Split split,
                           const UNetTrainingOptions& options)
    : config_(std::move(config)),
      images_(images),
      split_(std::move(split)),
      options_(options),
      sampler_(images, split_.training, tile_shape(*config_.unet, options.tile),
               options.augmentation, options.seed) {
  if (options_.tiles == 0) options_.tiles = static_cast<std::int64_t>(split_.training.size());
}

Graph UNetTraining::graph() const {
  return training_graph(build_unet(*config_.unet, false), example_inputs(config_));
}

FloatTensors UNetTraining::initial_weights() const {
  return tessera::initial_weights(build_unet(*config_.unet, false), example_inputs(config_),
                                  options_.seed, options_.threads);
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
          {"cross_entropy", options_.loss.cross_entropy},
          {"dice", options_.loss.dice},
          {"seed", options_.seed}};
}

std::int64_t UNetTraining::batches() const {
  return (options_.tiles + options_.batch - 1) / options_.batch;
}

TensorType UNetTraining::batch_type() const {
  const TileShape& shape = sampler_.shape();
  return {DType::kF32, {options_.batch, shape.input_height, shape.input_width, images_.channels()}};
}

TrainingSums UNetTraining::add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) {
  const std::int64_t begin = batch * options_.batch;
  const std::int64_t count = std::min(options_.batch, options_.tiles - begin);
  std::vector<TrainingTile> tiles(static_cast<std::size_t>(count));
  std::exception_ptr error;  // exceptions must not leave the parallel region
#pragma omp parallel for num_threads(options_.threads) schedule(dynamic)
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      tiles[static_cast<std::size_t>(i)] =
          sampler_.tile(static_cast<std::uint64_t>(epoch * options_.tiles + begin + i));
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
  TileBatch joined;
  for (const TrainingTile& tile : tiles) joined.append(tile);

  TrainingSums sums;
  const Gradients::Loss loss = [&](const TensorView& logits, const TensorView& gradient) {
    const auto classes = static_cast<std::size_t>(logits.shape()[-1]);
    for (std::size_t i = 0; i < joined.classes.size(); ++i) {
      if (joined.weights[i] == 0) continue;
      sums.total += 1;
      if (class_of(logits.as<float>() + i * classes, classes) == joined.classes[i])
        sums.correct += 1;
    }
    return loss_of(options_.loss, logits, joined, gradient.as<float>(), options_.threads);
  };
  TensorType type = batch_type();
  type.shape[0] = count;
  const TensorView input{joined.images.data(), type};
  const auto number = static_cast<std::uint64_t>(epoch * batches() + batch);
  sums.loss = gradients.add({&input, 1}, loss, {options_.seed, number});
  return sums;
}

std::optional<Evaluation> UNetTraining::validate(const TensorViews& weights) {
  if (split_.validation.empty()) return std::nullopt;
  Executor executor =
      make_evaluator(config_, build_unet(*config_.unet, true), weights, options_.threads);
  const TileShape& shape = sampler_.shape();
  const TensorType input_type{DType::kF32,
                              {1, shape.input_height, shape.input_width, images_.channels()}};
  const std::vector<TensorType> types = executor.output_types({&input_type, 1});
  std::vector<std::uint8_t> mask(types[0].bytes());
  FloatTensor probabilities(types[1].shape);
  const std::vector<TensorView> outputs{{mask.data(), types[0]}, probabilities.view()};

  // The class of a pixel without weight is none.
  ConfusionMatrix confusion(config_.classes.size());
  double loss = 0, weight = 0;
  for (const std::size_t index : split_.validation) {
    const auto image = images_.load(index);
    for (const TilePlace& place : covering_places(image->height, image->width, shape)) {
      TileBatch tile;
      tile.append(plain_tile(*image, shape, place));
      const TensorView input{tile.images.data(), input_type};
      executor.run({&input, 1}, outputs);
      // The softmax of log p is p, and so the loss on logits takes probabilities too.
      constexpr float kLeast = 1e-30f;
      for (float& p : probabilities.values) {
        p = config_.unet->output == Head::Output::kSigmoid
                ? std::log(std::max(p, kLeast)) - std::log(std::max(1 - p, kLeast))
                : std::log(std::max(p, kLeast));
      }
      double sum = 0;
      std::vector<std::uint8_t> truth = tile.classes;
      for (std::size_t i = 0; i < truth.size(); ++i) {
        sum += tile.weights[i];
        if (tile.weights[i] == 0) truth[i] = kIgnoredClass;
      }
      confusion.add(truth, mask, kIgnoredClass);
      loss += sum * loss_of(options_.loss, probabilities.view(), tile, nullptr, options_.threads);
      weight += sum;
    }
  }
  require(weight > 0, "no pixel of the validation images has a class");
  Evaluation evaluation{loss / weight, confusion.accuracy()};
  for (std::size_t c = 0; c < config_.classes.size(); ++c)
    evaluation.more["iou"][config_.classes[c].name] = confusion.iou(c);
  evaluation.more["mean_iou"] = confusion.mean(&ConfusionMatrix::iou);
  return evaluation;
}

}  // namespace tessera
