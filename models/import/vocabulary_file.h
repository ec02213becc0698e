// Words of a foreign text model: beside its weights in files, whoever wrote them, or inside of its
// checkpoint. Files are recognised by content:
//
//   {"class_name": "Tokenizer", "config": {"word_index": "{...}"}}   Keras' to_json(), also as a
//                                                                    text in JSON once more
//   {"the": 1, "a": 2}, {"1": "the"}, ["the", "a"]                   JSON
//   a pickled Tokenizer, dict of words or list of words              Python, never executed
//   the 0.1 -0.2 ...                                                 GloVe, word2vec, fastText
//   the                                                              a word on each line
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/train/float_tensor.h"
#include "models/import/contents.h"
#include "models/text/text.h"

namespace tessera {

struct VocabularyFile {
  struct Entry {
    std::int64_t id;
    std::string word;
  };
  std::string file;            // its path, or its entry of a checkpoint, for errors
  std::vector<Entry> entries;  // by rising id, which words may share; of a list places from 0 on
  bool has_ids = false;        // false: a list, whose first id the model must tell
  std::int64_t listed = 0;     // words of a list, with those that are there twice
  // Of words that the file lacks: Keras' oov_token, or an entry that is called so ("<unk>").
  std::optional<std::int64_t> unknown_id;
  std::int64_t id_limit = 0;       // ids at or above it are unknown (Keras' num_words); 0: none
  std::optional<TextRules> rules;  // how texts are split, where the file says it: Keras' Tokenizer
  std::vector<std::string> notes;
};

// Throws Error for what is none of the above, has no words or more than 2^24, ids that are no whole
// numbers from 0 to 2^30, or, of JSON and pickles, more than 256 MB. Of a word with several ids the
// last counts, of one that a list has twice the first, as in Python.
VocabularyFile read_vocabulary_file(const std::filesystem::path& path);
VocabularyFile read_vocabulary(std::span<const std::byte> bytes, const std::string& file);

// The words of a dict {word: id} or a list, which a checkpoint holds as `from`; nothing for what is
// neither.
std::optional<VocabularyFile> vocabulary_of(const nlohmann::json& value, const std::string& from);

// A vocabulary in our order (0 padding, 1 unknown, then words), with the rows of a model's
// embedding that belong to them.
struct OrderedVocabulary {
  Vocabulary vocabulary;
  FloatTensor embedding;  // (vocabulary.size(), features)
  bool knows_unknown;     // false: unknown words have no row of their own, and are left out
  std::vector<std::string> notes;
};

// `embedding` (rows, features) is the model's, by the file's ids; row `padding` stands for none. Of
// a list the first word has the id `first` (none: what makes the ids end with the rows). Words that
// the embedding has no row for, or that no text can hold, are left out. Throws Error where none is
// left.
OrderedVocabulary order_vocabulary(const VocabularyFile& file, const StoredTensor& embedding,
                                   std::int64_t padding = 0,
                                   std::optional<std::int64_t> first = std::nullopt);

}  // namespace tessera
