// Networks of words that are no HAN: better their kind and a way out than a list of tensors.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "models/import/contents.h"

namespace tessera {

// What is to be done with one.
inline constexpr std::string_view kWordNetworkAdvice =
    "Of networks of words Tessera runs HANs alone (recurrent layers and attention over the words "
    "of each sentence, then over the sentences); `tessera train han` makes one of the same "
    "labelled texts";

struct WordNetwork {
  std::string kind;  // "a transformer of words (BERT and its like), with a table (..) of words"
  bool may_be_han = false;  // it has recurrent layers for two levels
};

// What the names and shapes of a state dict say; none where it has no table of words.
std::optional<WordNetwork> word_network_of(const Contents& contents);

}  // namespace tessera
