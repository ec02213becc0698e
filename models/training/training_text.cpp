#include "models/training/training_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string_view>
#include <utility>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/text/labels.h"
#include "models/training/labelled_documents.h"

namespace tessera {
namespace {

constexpr std::size_t kMaxClasses = 1 << 14;

// Whether all names are whole numbers, which then have an order of their own.
bool all_numbers(std::span<const std::string> names, std::vector<std::int64_t>& values) {
  values.clear();
  for (const std::string& name : names) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
    if (error != std::errc() || end != name.data() + name.size()) return false;
    values.push_back(value);
  }
  return true;
}

std::vector<std::string> ordered_classes(std::vector<std::string> names) {
  std::vector<std::int64_t> values;
  std::sort(names.begin(), names.end());
  if (all_numbers(names, values)) {
    std::vector<std::size_t> order(names.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    // Stable: "1" and "01" are two names of one value.
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
    std::vector<std::string> sorted;
    for (const std::size_t i : order) sorted.push_back(names[i]);
    return sorted;
  }
  return names;
}

// For each document whether it is held back for validation: of every class the share asked for,
// rounded, but at least one document on each side where there are two.
std::vector<bool> stratified_split(const TextCorpus& corpus,
                                   const std::vector<std::string_view>& labels, double share,
                                   std::uint64_t seed) {
  std::vector<std::vector<std::size_t>> by_label(labels.size());
  for (std::size_t i = 0; i < corpus.size(); ++i)
    by_label[static_cast<std::size_t>(corpus.label(i))].push_back(i);
  std::vector<bool> held_back(corpus.size());
  if (share <= 0) return held_back;
  for (std::size_t label = 0; label < labels.size(); ++label) {
    std::vector<std::size_t>& documents = by_label[label];
    if (documents.size() < 2) continue;
    // By the label's name: other classes, and their order, change nothing in this one.
    Random(seed, stream_of(fmt::format("validation split/{}", labels[label])))
        .shuffle(std::span(documents));
    const auto wanted =
        static_cast<std::size_t>(std::lround(share * static_cast<double>(documents.size())));
    const std::size_t count = std::clamp<std::size_t>(wanted, 1, documents.size() - 1);
    for (std::size_t i = 0; i < count; ++i) held_back[documents[i]] = true;
  }
  return held_back;
}

// Final ids of a raw corpus: what models/text/tokenizer.cpp does with a text's words, word for
// word.
class Mapping {
 public:
  Mapping(const Interner& words, const Vocabulary& vocabulary, const TextRules& rules)
      : rules_(rules) {
    for (const std::string_view word : words.texts()) {
      const std::int32_t id = vocabulary.find(word);
      const bool beyond = rules.max_features > 0 && id >= rules.max_features;
      ids_.push_back(beyond ? Vocabulary::kUnknownId : id);
    }
  }

  // Calls add(id) for the words that are kept under the limits and end() after each sentence that
  // has one.
  template <class Add, class End>
  void walk(const TextCorpus& raw, std::size_t document, std::int64_t max_sentences,
            std::int64_t max_words, const Add& add, const End& end) const {
    std::int64_t sentences = 0;
    for (std::size_t i = 0; i < raw.sentences(document); ++i) {
      if (max_sentences > 0 && sentences == max_sentences) break;
      std::int64_t words = 0;
      for (const std::int32_t number : raw.sentence(document, i)) {
        const std::int32_t id = ids_[static_cast<std::size_t>(number)];
        if (id == Vocabulary::kUnknownId && rules_.unknown_words == UnknownWords::kDrop) continue;
        if (max_words > 0 && words == max_words) break;
        add(id);
        ++words;
      }
      if (words == 0) continue;
      end(words);
      ++sentences;
    }
  }

 private:
  const TextRules& rules_;
  std::vector<std::int32_t> ids_;  // by number
};

// Raw documents that `chosen` holds for, with final ids and labels; a class of -1 is none.
template <class Chosen>
TextCorpus finished(const TextCorpus& raw, const Mapping& mapping, const TextRules& rules,
                    std::span<const std::int32_t> classes,
                    const std::vector<std::string_view>& names, const std::string& path,
                    const Chosen& chosen, DataReport& report) {
  TextCorpus corpus;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (!chosen(i)) continue;
    const auto label = static_cast<std::size_t>(raw.label(i));
    if (classes[label] < 0) {
      report.problem(
          path, raw.line(i),
          fmt::format("the label \"{}\" is no class of the training; correct it or remove "
                      "the line",
                      names[label]));
      continue;
    }
    mapping.walk(
        raw, i, rules.max_sentences, rules.max_words, [&](std::int32_t id) { corpus.add_word(id); },
        [&](std::int64_t) { corpus.end_sentence(); });
    if (!corpus.end_document(classes[label], raw.line(i))) {
      report.problem(path, raw.line(i),
                     "no word of the document is in the vocabulary; remove the line");
    }
  }
  return corpus;
}

// Number of a label -> its class, -1 for none.
std::vector<std::int32_t> class_indices(const std::vector<std::string_view>& labels,
                                        std::span<const std::string> classes) {
  std::vector<std::int32_t> indices;
  for (const std::string_view label : labels) {
    const auto found = std::find(classes.begin(), classes.end(), label);
    indices.push_back(found == classes.end() ? -1
                                             : static_cast<std::int32_t>(found - classes.begin()));
  }
  return indices;
}

std::vector<std::size_t> documents_per_class(const TextCorpus& corpus, std::size_t classes) {
  std::vector<std::size_t> counts(classes);
  for (std::size_t i = 0; i < corpus.size(); ++i)
    ++counts[static_cast<std::size_t>(corpus.label(i))];
  return counts;
}

void require_options(const TextDataOptions& options) {
  require(options.validation_share >= 0 && options.validation_share < 1,
          "the validation share is {}; expected 0 (none) to below 1, usually 0.1",
          options.validation_share);
  require(options.quantile > 0 && options.quantile <= 1,
          "the quantile of the limits is {}; expected above 0 up to 1, usually 0.95",
          options.quantile);
  require(options.min_count >= 1, "the minimal count of a word is {}; expected at least 1",
          options.min_count);
  std::vector<std::string> names = options.classes;
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  require(twice == names.end(), "the class \"{}\" is named twice; name each class once",
          twice == names.end() ? "" : *twice);
}

}  // namespace

std::int64_t nearest_rank(std::vector<std::int64_t> values, double quantile) {
  if (values.empty()) return 1;
  const double rank = std::ceil(quantile * static_cast<double>(values.size()));
  const auto index = std::clamp<std::size_t>(static_cast<std::size_t>(rank), 1, values.size()) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(index),
                   values.end());
  return values[index];
}

TextData load_text_data(const TextDataOptions& given, DataReport& report) {
  require_options(given);
  TextDataOptions options = given;
  if (!options.in_memory.empty()) options.train = kDocumentsInMemory;
  TextRules rules = options.rules;
  const TextSplitter splitter(rules);
  Reading reading;
  const TextCorpus raw =
      options.in_memory.empty()
          ? read_labelled_documents(options.train, options.documents, splitter, options.threads,
                                    reading, report)
          : read_labelled_documents(options.in_memory, splitter, options.threads, reading, report);
  const std::size_t training_labels = reading.labels.texts().size();
  std::optional<TextCorpus> raw_validation;
  if (options.validation) {
    raw_validation = read_labelled_documents(*options.validation, options.documents, splitter,
                                             options.threads, reading, report);
  }
  const std::vector<std::string_view>& labels = reading.labels.texts();

  std::vector<std::string> classes = options.classes;
  if (classes.empty()) {
    const auto seen = std::span(labels).first(training_labels);
    classes = ordered_classes({seen.begin(), seen.end()});
  }
  if (classes.size() < 2 || classes.size() > kMaxClasses || raw.size() == 0) {
    report.require_none();  // more to the point than the few documents that they left
    require(raw.size() > 0, "{}: no documents; give labelled ones", options.train);
    fail("{}: {} classes{}; expected 2 to {}: is the label in the right column?", options.train,
         classes.size(), classes.size() == 1 ? fmt::format(" (\"{}\")", classes.front()) : "",
         kMaxClasses);
  }
  if (raw.size() >= 10 && classes.size() > raw.size() / 2) {
    report.note(
        fmt::format("{}: {} documents have {} different labels; is the label in the right "
                    "column?",
                    options.train, raw.size(), classes.size()));
  }
  for (const auto& group : look_alikes(std::vector<std::string>(labels.begin(), labels.end())))
    report.note(look_alike_note(group));
  const std::vector<std::int32_t> indices = class_indices(labels, classes);

  std::vector<bool> held_back(raw.size());
  if (!raw_validation)
    held_back = stratified_split(raw, labels, options.validation_share, options.seed);

  // By number: how often, and the numbers in the order in which training documents show them.
  std::vector<std::int64_t> counts(reading.words.texts().size());
  std::vector<std::int32_t> appeared;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (held_back[i]) continue;
    for (std::size_t j = 0; j < raw.sentences(i); ++j) {
      for (const std::int32_t number : raw.sentence(i, j)) {
        if (counts[static_cast<std::size_t>(number)]++ == 0) appeared.push_back(number);
      }
    }
  }
  const auto count_of = [&](std::int32_t number) {
    return counts[static_cast<std::size_t>(number)];
  };
  const auto word_of = [&](std::int32_t number) {
    return reading.words.texts()[static_cast<std::size_t>(number)];
  };
  std::optional<Vocabulary> vocabulary = options.vocabulary;
  if (!vocabulary) {
    VocabularyBuilder builder(rules);
    for (const std::int32_t number : appeared)
      builder.add_word(std::string(word_of(number)), count_of(number));
    vocabulary = builder.build(options.min_count);
  }
  TextData data{std::move(rules), *vocabulary, std::move(classes), {}, {}, {}};
  data.occurrences.resize(static_cast<std::size_t>(vocabulary->size()));
  const std::int64_t known_ids =
      data.rules.max_features > 0
          ? std::min<std::int64_t>(data.rules.max_features, vocabulary->size())
          : vocabulary->size();
  for (const std::int32_t number : appeared) {
    const std::int32_t id = vocabulary->find(word_of(number));
    data.occurrences[static_cast<std::size_t>(id < known_ids ? id : Vocabulary::kUnknownId)] +=
        count_of(number);
  }

  const Mapping mapping(reading.words, *vocabulary, data.rules);
  if (data.rules.max_sentences == 0 || data.rules.max_words == 0) {
    std::vector<std::int64_t> sentence_counts, word_counts;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      if (held_back[i]) continue;
      const std::size_t before = word_counts.size();
      mapping.walk(
          raw, i, 0, 0, [](std::int32_t) {},
          [&](std::int64_t words) { word_counts.push_back(words); });
      sentence_counts.push_back(static_cast<std::int64_t>(word_counts.size() - before));
    }
    if (data.rules.max_sentences == 0) {
      data.rules.max_sentences =
          std::max<std::int64_t>(1, nearest_rank(std::move(sentence_counts), options.quantile));
    }
    if (data.rules.max_words == 0)
      data.rules.max_words = nearest_rank(std::move(word_counts), options.quantile);
    validate(data.rules);
  }

  data.train = finished(
      raw, mapping, data.rules, indices, labels, options.train,
      [&](std::size_t i) { return !held_back[i]; }, report);
  if (raw_validation) {
    data.validation = finished(
        *raw_validation, mapping, data.rules, indices, labels, *options.validation,
        [](std::size_t) { return true; }, report);
  } else {
    data.validation = finished(
        raw, mapping, data.rules, indices, labels, options.train,
        [&](std::size_t i) { return held_back[i]; }, report);
  }

  const auto trained = documents_per_class(data.train, data.classes.size());
  const auto validated = documents_per_class(data.validation, data.classes.size());
  for (std::size_t i = 0; i < data.classes.size(); ++i) {
    if (trained[i] == 0) {
      report.problem(options.train, 0,
                     fmt::format("no document of class \"{}\"; add some or leave the class out",
                                 data.classes[i]));
    }
    if (validated[i] == 0 && data.validation.size() > 0) {
      report.note(fmt::format("{}: no validation document of class \"{}\" ({} of training)",
                              options.validation.value_or(options.train), data.classes[i],
                              trained[i]));
    }
  }
  return data;
}

std::string describe(const TextData& data) {
  const auto trained = documents_per_class(data.train, data.classes.size());
  const auto validated = documents_per_class(data.validation, data.classes.size());
  std::string text = fmt::format("{} training and {} validation documents of {} classes\n",
                                 data.train.size(), data.validation.size(), data.classes.size());
  for (std::size_t i = 0; i < data.classes.size(); ++i)
    text += fmt::format("  {}: {} and {}\n", data.classes[i], trained[i], validated[i]);
  const std::int64_t all =
      std::accumulate(data.occurrences.begin(), data.occurrences.end(), std::int64_t{0});
  const auto share = [&](double part) {
    return all > 0 ? 100 * part / static_cast<double>(all) : 0.0;
  };
  text += fmt::format("vocabulary of {} words, which leaves {:.1f}% of the training text unknown\n",
                      data.vocabulary.size() - Vocabulary::kFirstWordId,
                      share(static_cast<double>(data.occurrences[Vocabulary::kUnknownId])));
  text += fmt::format(
      "limits of {} (sentences) x {} (words of each), which keep {:.1f}% of the training text\n",
      data.rules.max_sentences, data.rules.max_words,
      share(static_cast<double>(data.train.words())));
  return text;
}

TextCorpus load_text_corpus(const std::string& path, const DocumentOptions& documents,
                            const TextRules& rules, const Vocabulary& vocabulary,
                            std::span<const std::string> classes, int threads, DataReport& report) {
  Reading reading;
  const TextCorpus raw =
      read_labelled_documents(path, documents, TextSplitter(rules), threads, reading, report);
  const std::vector<std::string_view>& labels = reading.labels.texts();
  const Mapping mapping(reading.words, vocabulary, rules);
  return finished(
      raw, mapping, rules, class_indices(labels, classes), labels, path,
      [](std::size_t) { return true; }, report);
}

}  // namespace tessera
