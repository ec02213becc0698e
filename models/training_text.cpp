#include "models/training_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "engine/random.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "models/unicode.h"

namespace tessera {
namespace {

constexpr std::size_t kMaxClasses = 1 << 14;
constexpr std::size_t kRecordsPerRound = 512;  // read one after another, then split in parallel

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode_one(text, at);
    if (!point.valid) return false;
    at += point.bytes;
  }
  return true;
}

// Distinct texts, numbered by first appearance.
class Interner {
 public:
  std::int32_t number(std::string_view text) {
    const auto found = numbers_.find(text);
    if (found != numbers_.end()) return found->second;
    const auto next = static_cast<std::int32_t>(texts_.size());
    require(next < std::numeric_limits<std::int32_t>::max(),
            "the data has more than 2^31 different words; give fewer documents");
    const auto entry = numbers_.emplace(std::string(text), next).first;
    texts_.push_back(entry->first);
    return next;
  }

  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> numbers_;
  std::vector<std::string_view> texts_;  // into the map's keys, which stay where they are
};

// A document's words as the splitter gave them.
struct SplitText : TextSplitter::Visitor {
  void sentence(Span) override { sentence_ends.push_back(word_ends.size()); }
  void word(std::string&& text, Span) override {
    letters += text;
    word_ends.push_back(letters.size());
    sentence_ends.back() = word_ends.size();
  }

  std::string letters;                     // of all words, without anything between
  std::vector<std::size_t> word_ends;      // in letters
  std::vector<std::size_t> sentence_ends;  // in word_ends
  std::size_t invalid_sequences = 0;
};

// What all files have in common: words and labels by number, in the order in which they came.
struct Reading {
  Interner words;
  Interner labels;
};

// The documents of one file with numbers of `reading` for ids and labels, without any limit.
TextCorpus read_documents(const std::string& path, DocumentOptions documents,
                          const TextSplitter& splitter, int threads, Reading& reading,
                          DataReport& report) {
  documents.format = document_format_of(path);
  require(documents.format != DocumentFormat::kText,
          "{}: expected labelled documents, .tsv (label<TAB>text) or .jsonl, also with .gz; rename "
          "or convert the file",
          path);
  TextCorpus corpus;
  std::size_t invalid_documents = 0, invalid_sequences = 0, first_invalid = 0;
  std::vector<DocumentRecord> records;
  std::vector<SplitText> texts;
  const auto take_round = [&] {
    texts.assign(records.size(), {});
    parallel_for(threads, static_cast<std::int64_t>(records.size()), [&](std::int64_t i) {
      DocumentRecord& record = records[static_cast<std::size_t>(i)];
      SplitText& text = texts[static_cast<std::size_t>(i)];
      text.invalid_sequences = splitter.walk(record.text, text);
    });
    for (std::size_t i = 0; i < records.size(); ++i) {
      const SplitText& text = texts[i];
      if (text.invalid_sequences > 0) {
        if (invalid_documents++ == 0) first_invalid = records[i].line;
        invalid_sequences += text.invalid_sequences;
      }
      std::size_t word = 0, begin = 0;
      for (const std::size_t end : text.sentence_ends) {
        for (; word < end; ++word) {
          const std::size_t stop = text.word_ends[word];
          corpus.add_word(
              reading.words.number(std::string_view(text.letters).substr(begin, stop - begin)));
          begin = stop;
        }
        corpus.end_sentence();
      }
      if (text.word_ends.empty()) {
        report.problem(path, records[i].line, "the document has no words; remove the line");
        continue;
      }
      corpus.end_document(reading.labels.number(*records[i].label), records[i].line);
    }
    records.clear();
  };

  try {
    DocumentReader reader(path, documents);
    const std::string prefix = path + ", line ";
    while (std::optional<DocumentRecord> record = reader.next()) {
      if (!record->error.empty()) {
        // The reader names file and line as the report does: said once is enough.
        const std::string place = fmt::format("{}{}: ", prefix, record->line);
        report.problem(
            path, record->line,
            record->error.starts_with(place) ? record->error.substr(place.size()) : record->error);
      } else if (!record->label.has_value() || record->label->empty()) {
        report.problem(path, record->line, "the document has no label; add it or remove the line");
      } else if (!is_utf8(*record->label)) {
        report.problem(path, record->line, "the label is not UTF-8; correct it or remove the line");
      } else {
        records.push_back(std::move(*record));
        if (records.size() == kRecordsPerRound) take_round();
      }
    }
  } catch (const Error& error) {
    const std::string_view text = error.what();
    report.problem(
        path, 0, std::string(text.starts_with(path + ": ") ? text.substr(path.size() + 2) : text));
  }
  take_round();
  if (invalid_documents > 0) {
    report.note(
        fmt::format("{}: {} byte sequences of {} documents are not UTF-8 and count as U+FFFD, the "
                    "first on line {}",
                    path, invalid_sequences, invalid_documents, first_invalid));
  }
  return corpus;
}

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

// Final ids of a raw corpus: what models/tokenizer.cpp does with a text's words, word for word.
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

// Documents by size: sentences first, because a document's padding is a multiple of them.
std::vector<std::tuple<std::size_t, std::size_t>> sizes_of(const TextCorpus& corpus) {
  std::vector<std::tuple<std::size_t, std::size_t>> sizes;
  for (std::size_t i = 0; i < corpus.size(); ++i)
    sizes.emplace_back(corpus.sentences(i), corpus.longest_sentence(i));
  return sizes;
}

std::vector<std::vector<std::uint32_t>> cut(std::span<const std::uint32_t> order,
                                            std::size_t batch_size) {
  std::vector<std::vector<std::uint32_t>> batches;
  for (std::size_t i = 0; i < order.size(); i += batch_size) {
    const auto part = order.subspan(i, std::min(batch_size, order.size() - i));
    batches.emplace_back(part.begin(), part.end());
  }
  return batches;
}

std::vector<std::uint32_t> all_documents(const TextCorpus& corpus, std::size_t batch_size) {
  require(batch_size > 0, "the batch size is 0; expected at least 1 document");
  require(corpus.size() <= std::numeric_limits<std::uint32_t>::max(),
          "{} documents; at most 2^32 are supported", corpus.size());
  std::vector<std::uint32_t> order(corpus.size());
  std::iota(order.begin(), order.end(), 0u);
  return order;
}

}  // namespace

std::size_t TextCorpus::longest_sentence(std::size_t document) const {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < sentences(document); ++i)
    longest = std::max(longest, sentence(document, i).size());
  return longest;
}

void TextCorpus::end_sentence() {
  const std::size_t begin = sentence_ends_.empty() ? 0 : sentence_ends_.back();
  if (ids_.size() > begin) sentence_ends_.push_back(ids_.size());
}

bool TextCorpus::end_document(std::int32_t label, std::size_t line) {
  const std::size_t begin = document_ends_.empty() ? 0 : document_ends_.back();
  if (sentence_ends_.size() == begin) return false;
  document_ends_.push_back(sentence_ends_.size());
  labels_.push_back(label);
  lines_.push_back(line);
  return true;
}

std::int64_t nearest_rank(std::vector<std::int64_t> values, double quantile) {
  if (values.empty()) return 1;
  const double rank = std::ceil(quantile * static_cast<double>(values.size()));
  const auto index = std::clamp<std::size_t>(static_cast<std::size_t>(rank), 1, values.size()) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(index),
                   values.end());
  return values[index];
}

TextData load_text_data(const TextDataOptions& options, DataReport& report) {
  require_options(options);
  TextRules rules = options.rules;
  const TextSplitter splitter(rules);
  Reading reading;
  const TextCorpus raw =
      read_documents(options.train, options.documents, splitter, options.threads, reading, report);
  const std::size_t training_labels = reading.labels.texts().size();
  std::optional<TextCorpus> raw_validation;
  if (options.validation) {
    raw_validation = read_documents(*options.validation, options.documents, splitter,
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
      read_documents(path, documents, TextSplitter(rules), threads, reading, report);
  const std::vector<std::string_view>& labels = reading.labels.texts();
  const Mapping mapping(reading.words, vocabulary, rules);
  return finished(
      raw, mapping, rules, class_indices(labels, classes), labels, path,
      [](std::size_t) { return true; }, report);
}

std::vector<std::vector<std::uint32_t>> epoch_batches(const TextCorpus& corpus,
                                                      std::size_t batch_size, std::uint64_t seed,
                                                      std::uint64_t epoch, bool grouped) {
  // Documents are sorted within pools of so many batches: large enough for neighbours to be alike,
  // small enough that a batch is another mixture in each epoch.
  constexpr std::size_t kPoolBatches = 50;
  std::vector<std::uint32_t> order = all_documents(corpus, batch_size);
  Random random(seed, stream_of("epoch", epoch));
  random.shuffle(std::span(order));
  if (!grouped) return cut(order, batch_size);

  const auto sizes = sizes_of(corpus);
  const std::size_t pool = kPoolBatches * batch_size;
  for (std::size_t i = 0; i < order.size(); i += pool) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(i);
    std::stable_sort(begin, begin + static_cast<std::ptrdiff_t>(std::min(pool, order.size() - i)),
                     [&](std::uint32_t a, std::uint32_t b) { return sizes[a] < sizes[b]; });
  }
  std::vector<std::vector<std::uint32_t>> batches = cut(order, batch_size);
  random.shuffle(std::span(batches));
  return batches;
}

std::vector<std::vector<std::uint32_t>> evaluation_batches(const TextCorpus& corpus,
                                                           std::size_t batch_size) {
  std::vector<std::uint32_t> order = all_documents(corpus, batch_size);
  const auto sizes = sizes_of(corpus);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return sizes[a] > sizes[b]; });
  return cut(order, batch_size);
}

void fill_batch(const TextCorpus& corpus, const HanConfig& config,
                std::span<const std::uint32_t> documents, TextBatch& batch) {
  HanBatch& input = batch.input;
  input.documents = static_cast<std::int64_t>(documents.size());
  std::size_t sentences = 0, words = 0;
  for (const std::uint32_t document : documents) {
    sentences = std::max(sentences, corpus.sentences(document));
    words = std::max(words, corpus.longest_sentence(document));
  }
  require(std::cmp_less_equal(sentences, config.max_sentences) &&
              std::cmp_less_equal(words, config.max_words),
          "a document of {} sentences of up to {} words was given, the model takes {} x {}",
          sentences, words, config.max_sentences, config.max_words);
  if (!config.masked) {
    sentences = static_cast<std::size_t>(config.max_sentences);
    words = static_cast<std::size_t>(config.max_words);
  }
  input.sentences = static_cast<std::int64_t>(sentences);
  input.words = static_cast<std::int64_t>(words);
  input.ids.assign(documents.size() * sentences * words, Vocabulary::kPaddingId);
  input.word_counts.assign(documents.size() * sentences, 0);
  input.sentence_counts.clear();
  batch.labels.clear();
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const std::size_t count = corpus.sentences(documents[i]);
    for (std::size_t j = 0; j < count; ++j) {
      const std::span<const std::int32_t> ids = corpus.sentence(documents[i], j);
      const std::size_t row = i * sentences + j;
      input.word_counts[row] = static_cast<std::int32_t>(ids.size());
      std::copy(ids.begin(), ids.end(),
                input.ids.begin() + static_cast<std::ptrdiff_t>(row * words));
    }
    input.sentence_counts.push_back(static_cast<std::int32_t>(count));
    batch.labels.push_back(corpus.label(documents[i]));
  }
}

}  // namespace tessera
