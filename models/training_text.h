// Labelled documents for the training of a HAN: read, split, tokenized once, and cut into batches.
//
//   DataReport report;
//   const TextData text = load_text_data({.train = "train.tsv.gz", .seed = 1}, report);
//   report.require_none();
//   for (const auto& documents : epoch_batches(text.train, 64, seed, epoch, true))
//     fill_batch(text.train, config, documents, batch);
//
// Files are read with models/documents.h, words are split by the rules of models/text.h, so that a
// trained model reads a text as its training did. Everything follows from the files, the options
// and the seed; the number of threads changes nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/documents.h"
#include "models/han.h"
#include "models/text.h"

namespace tessera {

// Word ids and labels of many documents, in three arrays instead of a heap block per sentence.
// Every document has at least one sentence, and every sentence at least one word.
class TextCorpus {
 public:
  std::size_t size() const { return labels_.size(); }  // documents
  std::size_t words() const { return ids_.size(); }

  std::int32_t label(std::size_t document) const { return labels_[document]; }
  std::size_t line(std::size_t document) const { return lines_[document]; }  // of its file, from 1
  std::size_t sentences(std::size_t document) const {
    return document_ends_[document] - first_sentence(document);
  }
  std::span<const std::int32_t> sentence(std::size_t document, std::size_t index) const {
    const std::size_t at = first_sentence(document) + index;
    const std::size_t begin = at == 0 ? 0 : sentence_ends_[at - 1];
    return std::span(ids_).subspan(begin, sentence_ends_[at] - begin);
  }
  std::size_t longest_sentence(std::size_t document) const;  // in words

  // Words, then the end of their sentence, and so on, then the end of the document. An end without
  // words (or sentences) before it adds nothing; end_document then returns false.
  void add_word(std::int32_t id) { ids_.push_back(id); }
  void end_sentence();
  bool end_document(std::int32_t label, std::size_t line);

 private:
  std::size_t first_sentence(std::size_t document) const {
    return document == 0 ? 0 : document_ends_[document - 1];
  }

  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> sentence_ends_;  // in ids_
  std::vector<std::size_t> document_ends_;  // in sentence_ends_
  std::vector<std::int32_t> labels_;
  std::vector<std::size_t> lines_;
};

struct TextDataOptions {
  std::string train;                                     // .tsv or .jsonl, also .gz
  std::optional<std::string> validation = std::nullopt;  // a file; else a part of `train`
  double validation_share = 0.1;                         // of each class; 0: no validation
  DocumentOptions documents = {};  // of both files; the format follows each name

  // A limit of 0 sentences or words is replaced by the `quantile` of the training documents.
  TextRules rules = {};
  double quantile = 0.95;
  std::int64_t min_count = 1;  // rarer words are unknown

  // Given (a model is trained further): not gathered from the training documents.
  std::optional<Vocabulary> vocabulary = std::nullopt;
  std::vector<std::string> classes = {};

  std::uint64_t seed = 0;  // of the split
  int threads = 1;
};

struct TextData {
  TextRules rules;  // with the limits chosen
  Vocabulary vocabulary;
  std::vector<std::string> classes;  // labels of the corpora are indices; in numeric order where
                                     // all are whole numbers, else in the order of their bytes
  TextCorpus train;
  TextCorpus validation;
  std::vector<std::int64_t> occurrences;  // by id, in the training documents, before any limit
};

// Reads, splits and tokenizes. The vocabulary follows the Keras rules over the training documents:
// falling frequency, ties by first appearance, ids from 2. A bad record (not of its format, without
// label, without words, of a label that training has not seen) is reported and left out; a file
// that is damaged half-way is reported once, after all that was found before. Throws Error where
// nothing can be made of the files: no document, one class alone, or options that contradict each
// other.
TextData load_text_data(const TextDataOptions& options, DataReport& report);

// What was read, for the person at the terminal: documents by class, vocabulary, limits. Lines.
std::string describe(const TextData& data);

// The documents of one file as a trained model reads them, for evaluation; reports as above.
TextCorpus load_text_corpus(const std::string& path, const DocumentOptions& documents,
                            const TextRules& rules, const Vocabulary& vocabulary,
                            std::span<const std::string> classes, int threads, DataReport& report);

// The smallest value that at least `quantile` of `values` do not exceed; 1 for no values.
std::int64_t nearest_rank(std::vector<std::int64_t> values, double quantile);

// Indices into a corpus, one list per step of an epoch: each document once, in an order that seed
// and epoch decide; the last batch may be smaller. `grouped` draws documents of similar size into
// one batch, for masked training, where a batch is padded to its longest document.
std::vector<std::vector<std::uint32_t>> epoch_batches(const TextCorpus& corpus,
                                                      std::size_t batch_size, std::uint64_t seed,
                                                      std::uint64_t epoch, bool grouped);

// The same for evaluation: by falling size, so that memory is at its peak in the first batch.
std::vector<std::vector<std::uint32_t>> evaluation_batches(const TextCorpus& corpus,
                                                           std::size_t batch_size);

struct TextBatch {
  HanBatch input;
  std::vector<std::int32_t> labels;  // (documents)
};

// Writes the batch of `documents`, reusing what memory `batch` has: masked, padded to its longest
// document and sentence; unmasked, to the limits of `config`, which hold for every document.
void fill_batch(const TextCorpus& corpus, const HanConfig& config,
                std::span<const std::uint32_t> documents, TextBatch& batch);

}  // namespace tessera
