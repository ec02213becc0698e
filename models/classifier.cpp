#include "models/classifier.h"

#include <algorithm>
#include <cmath>

namespace tessera {

namespace {

// Words (padding included) of one run: enough to fill the kernels, small enough for any memory.
constexpr std::int64_t kWordsPerRun = 1 << 15;

}  // namespace

std::shared_ptr<const Compiled> Classifier::compile(ModelFile& file,
                                                    std::shared_ptr<const Device> device) {
  const std::vector<TensorType> example = example_inputs(file.config);
  Graph graph = device->optimise(build_han(*file.config.han), example, false);
  const WeightSource weights = [&](const std::string& name, const Shape& shape) {
    return file.weights.take(name, shape);
  };
  return std::make_shared<Compiled>(std::move(graph), weights, example, std::move(device));
}

Classifier::Classifier(const HanConfig& config, std::shared_ptr<const Tokenizer> tokenizer,
                       std::shared_ptr<const Compiled> compiled, int threads)
    : config_(config), tokenizer_(std::move(tokenizer)), executor_(std::move(compiled), threads) {}

std::vector<Classification> Classifier::classify(const std::vector<std::string_view>& texts,
                                                 const Session::Progress& progress,
                                                 std::vector<NodeTiming>* timings) {
  std::vector<Classification> answers(texts.size());
  std::vector<Document> batch;
  std::vector<Classification*> batch_answers;
  std::int64_t sentences = 0, words = 0;  // of the longest in the batch
  const auto flush = [&](std::size_t done) {
    if (!batch.empty()) run_batch(batch, batch_answers, timings);
    if (progress)
      progress(static_cast<std::int64_t>(done), static_cast<std::int64_t>(texts.size()));
    batch.clear();
    batch_answers.clear();
    sentences = words = 0;
  };
  for (std::size_t i = 0; i < texts.size(); ++i) {
    Document document = tokenizer_->tokenize(texts[i]);
    Classification& answer = answers[i];
    answer.sentences_dropped = document.sentences_dropped;
    answer.words_dropped = document.words_dropped;
    answer.unknown_words = document.unknown_words;
    answer.invalid_sequences = document.invalid_sequences;
    if (document.sentences.empty()) {
      answer.error = "the document has no words; give it text";
      continue;
    }
    // Unmasked, every document is padded to the model's size.
    std::int64_t longest = config_.masked ? 0 : config_.max_words;
    for (const Sentence& sentence : document.sentences)
      longest = std::max(longest, static_cast<std::int64_t>(sentence.words.size()));
    const auto count = config_.masked && !config_.missing_sentences
                           ? static_cast<std::int64_t>(document.sentences.size())
                           : config_.max_sentences;
    const std::int64_t after = static_cast<std::int64_t>(batch.size() + 1) *
                               std::max(sentences, count) * std::max(words, longest);
    if (after > kWordsPerRun) flush(i);
    sentences = std::max(sentences, count);
    words = std::max(words, longest);
    batch.push_back(std::move(document));
    batch_answers.push_back(&answer);
  }
  flush(texts.size());
  return answers;
}

void Classifier::run_batch(const std::vector<Document>& documents,
                           const std::vector<Classification*>& answers,
                           std::vector<NodeTiming>* timings) {
  HanBatch batch = batch_documents(config_, documents);
  const std::vector<TensorView> inputs = batch.inputs(config_);
  std::vector<float> probabilities(documents.size() * static_cast<std::size_t>(config_.classes));
  std::vector<float> word_weights(batch.ids.size());
  std::vector<float> sentence_weights(batch.word_counts.size());
  const std::vector<TensorView> outputs{
      {probabilities.data(), {DType::kF32, {batch.documents, config_.classes}}},
      {word_weights.data(), {DType::kF32, {batch.documents, batch.sentences, batch.words}}},
      {sentence_weights.data(), {DType::kF32, {batch.documents, batch.sentences}}}};
  executor_.run(inputs, outputs, timings);

  const auto classes = static_cast<std::size_t>(config_.classes);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    Classification& answer = *answers[i];
    const float* row = probabilities.data() + i * classes;
    if (std::any_of(row, row + classes, [](float p) { return !std::isfinite(p); })) {
      answer.error = "the network's answer is not a number; check the weights of the model";
      continue;
    }
    answer.probabilities.assign(row, row + classes);
    answer.label = static_cast<std::size_t>(std::max_element(row, row + classes) - row);
    for (std::size_t j = 0; j < documents[i].sentences.size(); ++j) {
      const Sentence& sentence = documents[i].sentences[j];
      const std::size_t at = i * static_cast<std::size_t>(batch.sentences) + j;
      AttendedSentence& attended = answer.sentences.emplace_back();
      attended.begin = sentence.span.begin;
      attended.end = sentence.span.end;
      attended.weight = sentence_weights[at];
      const float* weight = word_weights.data() + at * static_cast<std::size_t>(batch.words);
      for (const Word& word : sentence.words) {
        attended.words.push_back(
            {word.span.begin, word.span.end, *weight++, word.id != Vocabulary::kUnknownId});
      }
    }
  }
}

}  // namespace tessera
