// Word vectors as text, the format of GloVe (Pennington et al. 2014), word2vec and fastText:
//
//   word v1 v2 ... vd        one line per word; the first line may be `words d` instead
//
// plain or compressed with gzip.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/text/text.h"

namespace tessera {

struct WordVectorOptions {
  int width = 0;  // d; 0: that of the file
  // Words that the file lacks, and the unknown word, get uniform numbers in +- this, Keras' default
  // for an embedding; they follow from seed and word alone.
  double missing_range = 0.05;
  std::uint64_t seed = 0;
};

struct WordVectors {
  int width = 0;
  std::vector<float> rows;  // (vocabulary.size(), width); the padding's row is 0
  std::vector<bool> found;  // by id
  std::int64_t words_found = 0;
  std::size_t lines = 0;  // with a vector

  // The share of the vocabulary's words that the file has.
  double word_coverage() const;
  // The same weighted by `occurrences` (by id, TextData has it), unknown words counted as missing:
  // the share of a text's words that have a vector.
  double text_coverage(std::span<const std::int64_t> occurrences) const;
};

// Reads the vectors of the words in `vocabulary`. A line of another width, with what is no finite
// number for such a word, or with such a word for the second time (the first one counts) is a
// problem of `report`. Throws Error where the file cannot be read, has no vector, or has another
// width than asked for from its first line on.
WordVectors load_word_vectors(const std::string& path, const Vocabulary& vocabulary,
                              const WordVectorOptions& options, DataReport& report);

}  // namespace tessera
