// Labelled documents for the training of a HAN: read, split, tokenized once, and cut into batches.
//
//   DataReport report;
//   const TextData text = load_text_data({.train = "train.tsv.gz", .seed = 1}, report);
//   report.require_none();
//   for (const auto& documents : epoch_batches(text.train, 64, seed, epoch, true))
//     fill_batch(text.train, config, documents, batch);
//
// Files are read with models/text/documents.h, words are split by the rules of models/text/text.h,
// so that a trained model reads a text as its training did. Everything follows from the files, the
// options and the seed; the number of threads changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/text/documents.h"
#include "models/text/text.h"
#include "models/train.h"
#include "models/training/text_corpus.h"

namespace tessera {

struct TextDataOptions {
  std::string train;  // a file of any format of models/text/documents.h but text
  std::span<const LabelledText> in_memory = {};          // if any: instead of that
  std::optional<std::string> validation = std::nullopt;  // a file; else a part of `train`
  double validation_share = 0.1;                         // of each class; 0: no validation
  DocumentOptions documents = {};                        // of both files

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

}  // namespace tessera
