#include "models/training/han_training.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "engine/files/digest.h"
#include "engine/passes/passes.h"
#include "engine/train/initialise.h"
#include "kernels/cpu/convert.h"
#include "kernels/train/loss/loss.h"
#include "models/training/confusion_matrix.h"

namespace tessera {

using nlohmann::json;

namespace {

constexpr const char* kEmbedding = "embedding/";
// A probability of 0 has no logarithm; Keras clips at the same value.
constexpr float kLeastProbability = 1e-7f;

std::size_t argmax(const float* row, std::size_t classes) {
  return static_cast<std::size_t>(std::max_element(row, row + classes) - row);
}

std::string digest_of(const TextCorpus& corpus) {
  Digest digest;
  for (std::size_t d = 0; d < corpus.size(); ++d) {
    const std::int32_t label = corpus.label(d);
    digest.add(std::span(&label, 1));
    for (std::size_t s = 0; s < corpus.sentences(d); ++s) {
      const std::span<const std::int32_t> words = corpus.sentence(d, s);
      const std::uint64_t count = words.size();
      digest.add(std::span(&count, 1)).add(words);
    }
  }
  return digest.hex();
}

}  // namespace

HanTraining::HanTraining(ModelConfig config, const TextData& text, const WordVectors* vectors,
                         const HanTaskOptions& options)
    : config_(std::move(config)), text_(text), vectors_(vectors), options_(options) {
  require(options.dropout >= 0 && options.dropout < 1,
          "dropout: expected a share from 0 to below 1, found {}", options.dropout);
  HanConfig& han = *config_.han;
  han.words = text.vocabulary.size();
  if (vectors != nullptr) han.features = vectors->width;
  han.classes = static_cast<int>(text.classes.size());
  han.max_sentences = static_cast<int>(text.rules.max_sentences);
  han.max_words = static_cast<int>(text.rules.max_words);
  config_.text = text.rules;
  config_.classes.clear();
  const std::vector<Rgb> colours =
      default_colours(han.classes + 1);  // the first is the background's
  for (std::size_t c = 0; c < text.classes.size(); ++c)
    config_.classes.push_back({text.classes[c], colours[c + 1]});
}

Graph HanTraining::graph() const {
  Graph graph = build_han(*config_.han);
  if (options_.dropout == 0) graph = remove_dropout(graph);
  for (Node& node : graph.nodes) {
    if (auto* dropout = std::get_if<Dropout>(&node.op)) dropout->rate = options_.dropout;
  }
  return training_graph(graph);
}

FloatTensors HanTraining::initial_weights() const {
  FloatTensors weights = tessera::initial_weights(build_han(*config_.han), example_inputs(config_),
                                                  options_.seed, options_.threads);
  if (vectors_ != nullptr) {
    for (auto& [name, tensor] : weights) {
      if (name.starts_with(kEmbedding)) tensor.values = vectors_->rows;
    }
  }
  return weights;
}

std::vector<std::string> HanTraining::frozen() const {
  return options_.tune_embedding ? std::vector<std::string>{}
                                 : std::vector<std::string>{kEmbedding};
}

std::vector<TensorType> HanTraining::largest_batch() const {
  std::vector<TensorType> types = example_inputs(config_);
  for (TensorType& type : types)
    type.shape[0] =
        std::min<std::int64_t>(options_.batch, static_cast<std::int64_t>(text_.train.size()));
  return types;
}

json HanTraining::settings() const {
  const std::string& words = text_.vocabulary.to_blob();
  return {{"documents", text_.train.size()},
          {"documents_digest", digest_of(text_.train)},
          {"validation", text_.validation.size()},
          {"validation_digest", digest_of(text_.validation)},
          {"words", text_.train.words()},
          {"vocabulary_digest", digest_of(words)},
          {"vectors", vectors_ != nullptr},
          {"vectors_digest",
           vectors_ != nullptr ? Digest().add(std::span<const float>(vectors_->rows)).hex() : ""},
          {"batch", options_.batch},
          {"dropout", options_.dropout},
          {"tune_embedding", options_.tune_embedding},
          {"seed", options_.seed}};
}

std::int64_t HanTraining::batches() const {
  return (static_cast<std::int64_t>(text_.train.size()) + options_.batch - 1) / options_.batch;
}

LossResult HanTraining::add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) {
  if (epoch != order_epoch_) {
    order_ = epoch_batches(text_.train, static_cast<std::size_t>(options_.batch), options_.seed,
                           static_cast<std::uint64_t>(epoch), config_.han->masked);
    order_epoch_ = epoch;
  }
  TextBatch made;
  fill_batch(text_.train, *config_.han, order_.at(static_cast<std::size_t>(batch)), made);
  const TensorView labels{made.labels.data(),
                          {DType::kI32, {static_cast<std::int64_t>(made.labels.size())}}};
  const auto number = static_cast<std::uint64_t>(epoch * batches() + batch);
  return gradients.add(made.input.inputs(*config_.han), {.labels = labels},
                       {options_.seed, number});
}

std::optional<Evaluation> HanTraining::validate(const TensorViews& weights, const Device& device,
                                                Ranks& ranks) {
  const TextCorpus& corpus = text_.validation;
  if (corpus.size() == 0) return std::nullopt;
  Executor executor = make_evaluator(config_, build_han(*config_.han), weights, device);
  ConfusionMatrix confusion(text_.classes.size());
  struct DocumentLoss {
    std::size_t batch = 0;
    double logarithm = 0;
  };
  std::vector<DocumentLoss> losses;
  TextBatch batch;
  const auto batches = evaluation_batches(corpus, static_cast<std::size_t>(options_.batch));
  for (std::size_t b = 0; b < batches.size(); ++b) {
    if (!is_own(ranks, b)) continue;
    fill_batch(corpus, *config_.han, batches[b], batch);
    const std::vector<TensorView> inputs = batch.input.inputs(*config_.han);
    std::vector<TensorType> types;
    for (const TensorView& input : inputs) types.push_back(input.type);
    std::vector<FloatTensor> tensors;
    for (const TensorType& type : executor.output_types(types)) tensors.emplace_back(type.shape);
    std::vector<TensorView> outputs;
    for (const FloatTensor& tensor : tensors) outputs.push_back(tensor.view());
    executor.run(inputs, outputs);
    const std::size_t classes = text_.classes.size();
    for (std::size_t i = 0; i < batch.labels.size(); ++i) {
      const float* row = tensors[0].values.data() + i * classes;
      const auto label = static_cast<std::size_t>(batch.labels[i]);
      confusion.add(label, argmax(row, classes));
      losses.push_back({b, std::log(std::max(row[label], kLeastProbability))});
    }
  }
  add_ranks(confusion, ranks);
  losses = gather_values(ranks, losses);
  std::ranges::stable_sort(losses, {}, &DocumentLoss::batch);
  double loss = 0;
  for (const DocumentLoss& one : losses) loss -= one.logarithm;
  return Evaluation{loss / static_cast<double>(corpus.size()),
                    confusion.accuracy(),
                    {{"mean_f1", confusion.mean(&ConfusionMatrix::f1)}}};
}

}  // namespace tessera
