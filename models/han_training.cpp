#include "models/han_training.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>

#include "engine/initialise.h"
#include "engine/passes.h"
#include "kernels/cpu/convert.h"
#include "kernels/loss/loss.h"
#include "models/confusion_matrix.h"

namespace tessera {

using nlohmann::json;

namespace {

constexpr const char* kEmbedding = "embedding/";
// A probability of 0 has no logarithm; Keras clips at the same value.
constexpr float kLeastProbability = 1e-7f;

std::size_t argmax(const float* row, std::size_t classes) {
  return static_cast<std::size_t>(std::max_element(row, row + classes) - row);
}

// Tells other documents, labels or an other order of them.
std::uint64_t digest(const TextCorpus& corpus) {
  uLong sum = crc32(0, nullptr, 0);
  const auto add = [&](const void* data, std::size_t bytes) {
    sum = crc32_z(sum, static_cast<const Bytef*>(data), bytes);
  };
  for (std::size_t d = 0; d < corpus.size(); ++d) {
    const std::int32_t label = corpus.label(d);
    add(&label, sizeof label);
    for (std::size_t s = 0; s < corpus.sentences(d); ++s) {
      const auto sentence = corpus.sentence(d, s);
      const std::uint64_t words = sentence.size();
      add(&words, sizeof words);
      add(sentence.data(), sentence.size_bytes());
    }
  }
  return sum;
}

std::uint64_t digest(const void* data, std::size_t bytes) {
  return crc32_z(crc32(0, nullptr, 0), static_cast<const Bytef*>(data), bytes);
}

}  // namespace

HanTraining::HanTraining(ModelConfig config, const TextData& text, const WordVectors* vectors,
                         const HanTrainingOptions& options)
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
  return {
      {"documents", text_.train.size()},
      {"validation", text_.validation.size()},
      {"words", text_.train.words()},
      {"batch", options_.batch},
      {"dropout", options_.dropout},
      {"tune_embedding", options_.tune_embedding},
      {"seed", options_.seed},
      {"vectors", vectors_ != nullptr
                      ? digest(vectors_->rows.data(), vectors_->rows.size() * sizeof(float))
                      : 0},
      {"vocabulary", digest(text_.vocabulary.to_blob().data(), text_.vocabulary.to_blob().size())},
      {"classes", text_.classes},
      {"training_content", digest(text_.train)},
      {"validation_content", digest(text_.validation)}};
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

std::optional<Evaluation> HanTraining::validate(const TensorViews& weights, const Device& device) {
  const TextCorpus& corpus = text_.validation;
  if (corpus.size() == 0) return std::nullopt;
  Executor executor = make_evaluator(config_, build_han(*config_.han), weights, device);
  ConfusionMatrix confusion(text_.classes.size());
  double loss = 0;
  TextBatch batch;
  for (const auto& documents :
       evaluation_batches(corpus, static_cast<std::size_t>(options_.batch))) {
    fill_batch(corpus, *config_.han, documents, batch);
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
      loss -= std::log(std::max(row[label], kLeastProbability));
    }
  }
  return Evaluation{loss / static_cast<double>(corpus.size()),
                    confusion.accuracy(),
                    {{"mean_f1", confusion.mean(&ConfusionMatrix::f1)}}};
}

}  // namespace tessera
