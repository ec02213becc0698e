// `tessera train han`.
#include <charconv>

#include "models/training/han_training.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"
#include "tools/program/train.h"

namespace tessera {

namespace {

ModelConfig model_config(const DocumentTrainOptions& options) {
  ModelConfig config;
  constexpr int kLeastWords = 3;  // until the data say how many there are
  try {
    nlohmann::json network =
        to_json(options.network.empty() ? HanConfig() : named_han(options.network));
    network.update({{"words", kLeastWords},
                    {"features", options.features},
                    {"cell", options.cell},
                    {"units", options.units},
                    {"dense", options.dense},
                    {"attention", options.attention},
                    {"masked", !options.unmasked}});
    config.han = han_config_from_json(network);
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  return config;
}

TextDataOptions data_options(const DocumentTrainOptions& options) {
  TextDataOptions data;
  data.train = options.data;
  const std::string& rule = options.validation;
  double share = 0;
  const auto [stop, error] = std::from_chars(rule.data(), rule.data() + rule.size(), share);
  if (error == std::errc() && stop == rule.data() + rule.size()) {
    if (!(share >= 0 && share < 1))
      throw UsageError(
          fmt::format("--validation: expected a share from 0 to below 1, or a file; "
                      "found '{}'",
                      rule));
    data.validation_share = share;
  } else {
    data.validation = rule;
  }
  data.documents = options.files.reader_options();
  data.rules.max_features = options.max_features;
  data.rules.max_sentences = options.max_sentences;
  data.rules.max_words = options.max_words;
  data.quantile = options.quantile;
  data.min_count = options.min_count;
  data.seed = options.seed;
  data.threads = options.run.thread_count();
  return data;
}

}  // namespace

int train_on_documents(const DocumentTrainOptions& options) {
  require_no_input("-o", options.run.output,
                   {options.data, options.vectors, options.validation, options.run.recipe});
  const ModelConfig config = model_config(options);
  Report report(options.run.report, "documents", 0);
  DataReport found;
  const TextData text = load_text_data(data_options(options), found);
  if (options.skip_bad) {
    for (const std::string& note : found.notes()) report.note(note);
    for (const DataProblem& problem : found.problems())
      report.note("left out: " + problem.to_string());
  } else {
    settle(found, report);
  }
  std::string description = describe(text);
  if (description.ends_with('\n')) description.pop_back();
  report.note(description);

  options.run.require_validation(text.validation.size() > 0);

  std::optional<WordVectors> vectors;
  if (!options.vectors.empty()) {
    DataReport in_vectors;
    vectors =
        load_word_vectors(options.vectors, text.vocabulary, {.seed = options.seed}, in_vectors);
    for (const DataProblem& problem : in_vectors.problems()) report.note(problem.to_string());
    report.note(fmt::format("word vectors: {} wide, {:.1f} % of the words, {:.1f} % of the text",
                            vectors->width, 100 * vectors->word_coverage(),
                            100 * vectors->text_coverage(text.occurrences)));
  }
  const HanTrainingOptions training{.batch = options.run.batch,
                                    .dropout = options.dropout,
                                    .tune_embedding = options.tune_embedding || !vectors,
                                    .seed = options.seed,
                                    .threads = options.run.thread_count()};
  HanTraining task(config, text, vectors ? &*vectors : nullptr, training);
  if (options.run.check) return kExitDone;
  std::vector<std::string> data{options.data};
  if (vectors) data.push_back(options.vectors);
  return run_training(task, options.run, options.run.training_options(task, data, options.seed));
}

}  // namespace tessera
