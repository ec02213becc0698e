// train_han of models/train.h.
#include <charconv>

#include "models/networks/registry.h"
#include "models/outputs.h"
#include "models/training/han_training.h"
#include "models/training/labelled_documents.h"
#include "models/training/train_run.h"

namespace tessera {

namespace {

void check_document_options(const HanTrainOptions& options) {
  constexpr double kWidestLayer = 1 << 14, kMostDropout = 0.99;
  check_options(options, "mean_f1");
  if (options.data.empty() == options.documents.empty())
    throw OptionError(options.data.empty()
                          ? "no documents: give a file of labelled ones"
                          : "documents of more than one source: give a file, or those in memory");
  require_whole("--max-features", options.max_features, 0);
  require_whole("--max-sentences", options.max_sentences, 0);
  require_whole("--max-words", options.max_words, 0);
  require_whole("--min-count", options.min_count, 1);
  require_number("--quantile", options.quantile, 0, 1);
  require_whole("--features", options.features.value_or(1), 1, kWidestLayer);
  require_whole("--units", options.units.value_or(1), 1, kWidestLayer);
  require_whole("--attention", options.attention.value_or(1), 1, kWidestLayer);
  require_whole("--dense", options.dense.value_or(0), 0, kWidestLayer);
  require_number("--dropout", options.dropout, 0, kMostDropout);
}

// The published network, or this program's own, with what is given besides.
ModelConfig han_model_config(const HanTrainOptions& options) {
  ModelConfig config;
  constexpr int kLeastWords = 3;  // until the data say how many there are
  try {
    nlohmann::json network =
        to_json(options.network.empty() ? HanConfig() : named_han(options.network));
    network["words"] = kLeastWords;
    if (!options.cell.empty()) network["cell"] = options.cell;
    if (options.unmasked) network["masked"] = false;
    const std::pair<const char*, const std::optional<int>*> sizes[] = {
        {"features", &options.features},
        {"units", &options.units},
        {"dense", &options.dense},
        {"attention", &options.attention}};
    for (const auto& [name, size] : sizes) {
      if (*size) network[name] = **size;
    }
    config.han = han_config_from_json(network);
  } catch (const Error& error) {
    throw OptionError(error.what());
  }
  return config;
}

TextDataOptions data_options(const HanTrainOptions& options) {
  TextDataOptions data;
  data.train = options.data;
  data.in_memory = options.documents;
  const std::string& rule = options.validation;
  double share = 0;
  const auto [stop, error] = std::from_chars(rule.data(), rule.data() + rule.size(), share);
  if (error == std::errc() && stop == rule.data() + rule.size()) {
    if (!(share >= 0 && share < 1))
      throw OptionError(
          fmt::format("--validation: expected a share from 0 to below 1, or a file; "
                      "found '{}'",
                      rule));
    data.validation_share = share;
  } else {
    data.validation = rule;
  }
  data.documents = reader_options(options.files);
  data.rules.max_features = options.max_features;
  data.rules.max_sentences = options.max_sentences;
  data.rules.max_words = options.max_words;
  data.quantile = options.quantile;
  data.min_count = options.min_count;
  data.seed = options.seed;
  data.threads = threads_of(options);
  return data;
}

}  // namespace

TrainResult train_on_documents(const HanTrainOptions& options, const TrainEvents& events,
                               const std::shared_ptr<Ranks>& ranks) {
  check_document_options(options);
  require_no_input("-o", options.output, {options.data, options.vectors, options.validation});
  const ModelConfig config = han_model_config(options);
  DataReport found;
  const TextData text = load_text_data(data_options(options), found);
  if (options.skip_bad) {
    for (const std::string& note : found.notes()) events.note(note);
    for (const DataProblem& problem : found.problems())
      events.note("left out: " + problem.to_string());
  } else {
    settle(found, events);
  }
  std::string description = describe(text);
  if (description.ends_with('\n')) description.pop_back();
  events.note(description);
  require_validation(options, text.validation.size() > 0);
  if (events.stop()) return {.end = TrainResult::End::kStopped};

  std::optional<WordVectors> vectors;
  if (!options.vectors.empty()) {
    DataReport in_vectors;
    vectors =
        load_word_vectors(options.vectors, text.vocabulary, {.seed = options.seed}, in_vectors);
    for (const DataProblem& problem : in_vectors.problems()) events.note(problem.to_string());
    events.note(fmt::format("word vectors: {} wide, {:.1f} % of the words, {:.1f} % of the text",
                            vectors->width, 100 * vectors->word_coverage(),
                            100 * vectors->text_coverage(text.occurrences)));
  }
  const HanTaskOptions training{.batch = options.batch,
                                .dropout = options.dropout,
                                .tune_embedding = options.tune_embedding || !vectors,
                                .seed = options.seed,
                                .threads = threads_of(options)};
  HanTraining task(config, text, vectors ? &*vectors : nullptr, training);
  std::vector<std::string> data{options.data.empty() ? "documents" : options.data};
  if (vectors) data.push_back(options.vectors);
  return run_training(task, options, data, events, ranks);
}

}  // namespace tessera
