// Builds the HAN of a foreign file from the names of its tensors (models/networks/han.h): sizes
// from their shapes, rows of the embedding in the order of our vocabulary.
#pragma once

#include <string>
#include <vector>

#include "models/import/network_builder.h"

namespace tessera {

// Names of one level's tensors.
struct HanLevelNames {
  std::string rnn;      // what precedes PyTorch's "weight_ih_l0": "word_gru."
  std::string weight;   // (units, d) of the attention; with HanLayout::transposed (d, units)
  std::string bias;     // empty: it has none
  std::string context;  // (units), (1, units) or (units, 1)
};

struct HanLayout {
  std::string embedding;
  HanLevelNames word, sentence;
  std::string output;  // "fc": its ".weight" and ".bias"
  bool transposed = false;
  // HanConfig's: masked, eps, carried, tanh_*_score; sizes are filled in.
  HanConfig config{};
  TextRules text{};

  // Rows of the embedding where the vocabulary does not name them; negative: from the end.
  std::int64_t padding_row = 0, unknown_row = 1;
  std::int64_t first_row = 2;                                 // of the first word of a list
  std::vector<std::string> padding_words{}, unknown_words{};  // "<pad>", "<unk>"
  std::vector<std::string> entries{};  // of the checkpoint that may hold the vocabulary
  std::string vocabulary_advice{};     // what to give where there is none

  bool sentences_by_rules = true;  // English rules; else every full stop before white space
  bool lower_case = true;
  std::string limits_said_by = "the family's usual";  // config.max_sentences, config.max_words
  std::string words_note{};                           // how its words were cut, where ours differ
  std::vector<std::string> classes{};                 // names; empty: "class 0", ...
};

// A family's `match`: what `layout_of(net)` describes, if all tensors of the file are in it.
// Nothing, with the reason in `why`, where they are not; throws Error where they are and the
// network or its vocabulary cannot be taken.
Imported build_han_of(NetworkBuilder& net, const Contents& contents, const ImportOptions& options,
                      HanLayout layout);

template <class LayoutOf>
std::optional<Imported> match_han(const Contents& contents, const ImportOptions& options,
                                  std::string& why, const LayoutOf& layout_of) {
  try {
    NetworkBuilder net(contents, options);
    return build_han_of(net, contents, options, layout_of(net));
  } catch (const OtherNetwork& error) {
    why = error.what();
    return std::nullopt;
  }
}

}  // namespace tessera
