// The vocabulary of a foreign HAN: words and the rows of its embedding.
//
// Inside of a checkpoint ({"word_map": {"the": 1, ...}}), or in a file of its own:
//   JSON or pickle: {word: row}; a list of words; a Keras tokenizer (its word_index)
//   text: a word a line; GloVe's or word2vec's vectors, whose first field is the word
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct WordList {
  std::string from;                // where it was found, for errors and guesses: "word_map", a path
  std::vector<std::string> words;  // no two equal
  std::vector<std::int64_t> rows;  // of each word; empty: a list, whose order is all it says
  std::string kind;                // "word map", "list of words", "word vectors"
};

// Of a dict of words and whole numbers, or a list of words; nothing for what is neither.
std::optional<WordList> word_list_of(const nlohmann::json& value, std::string from);

// Throws Error where the file cannot be read or holds no words.
WordList read_word_list(const std::filesystem::path& path);

}  // namespace tessera
