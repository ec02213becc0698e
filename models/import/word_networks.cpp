#include "models/import/word_networks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

namespace tessera {
namespace {

template <std::size_t N>
bool names_one_of(std::string_view name, const std::array<std::string_view, N>& parts) {
  return std::ranges::any_of(parts,
                             [&](std::string_view part) { return name.find(part) != name.npos; });
}

// The table of words, or null.
const StoredTensor* table_of(const Contents& contents) {
  constexpr std::array<std::string_view, 5> kTables{"emb", "Emb", "lookup", "wte.", "word_vec"};
  const auto found = std::ranges::find_if(contents.tensors, [&](const StoredTensor& tensor) {
    return tensor.shape.size() == 2 && tensor.is_float() && names_one_of(tensor.name, kTables);
  });
  return found == contents.tensors.end() ? nullptr : &*found;
}

}  // namespace

std::optional<WordNetwork> word_network_of(const Contents& contents) {
  const StoredTensor* const table = table_of(contents);
  if (table == nullptr) return std::nullopt;
  constexpr std::array<std::string_view, 7> kTransformers{
      ".self.query.", ".self_attn.",    ".q_lin.", ".c_attn.",
      ".q_proj.",     "SelfAttention.", ".attn.q."};
  constexpr std::string_view kRecurrent = "weight_ih_l0";
  bool transformer = false, convolution = false, attention = false;
  std::size_t recurrent = 0;
  for (const StoredTensor& tensor : contents.tensors) {
    transformer = transformer || names_one_of(tensor.name, kTransformers);
    attention =
        attention || names_one_of(tensor.name, std::array<std::string_view, 2>{"att", "Att"});
    recurrent += tensor.name.ends_with(kRecurrent) ? 1 : 0;
    const std::vector<std::int64_t>& shape = tensor.shape;
    // A network of images may have tables, too (of steps, say); windows of words are as wide as
    // their vectors.
    if (shape.size() == 4 && (shape[1] != 1 || shape[3] != table->shape[1])) return std::nullopt;
    convolution = convolution || shape.size() >= 3;
  }
  std::string kind = "a network of words without recurrent layers";
  if (transformer) {
    kind = "a transformer of words (BERT and its like)";
  } else if (recurrent > 0) {
    kind = fmt::format("a recurrent network of words{}{}", recurrent == 1 ? " in one level" : "",
                       attention ? ", with attention" : "");
  } else if (convolution) {
    kind = "a convolutional network of words";
  }
  return WordNetwork{fmt::format("{}, with a table {} of words", kind, shape_text(table->shape)),
                     recurrent >= 2 && !transformer};
}

}  // namespace tessera
