// uvipen/Hierarchical-attention-networks-pytorch and its forks: GRU, padding attended, the state of
// the word level carried from sentence to sentence, tanh around the scores (which forks, and the
// repository itself later, leave out of one level or both). A file holds the whole module.
#include <algorithm>

#include "models/import/families/families.h"
#include "models/import/families/nltk.h"
#include "models/import/han_builder.h"

namespace tessera {
namespace {

constexpr const char* kWordNet = "word_att_net";
constexpr const char* kSentenceNet = "sent_att_net";

// What the class's source says of the tanh, where the file has it.
bool source_drops_tanh(const Contents& contents, const char* net) {
  const nlohmann::json::json_pointer path(std::string("/objects/") + net + "/source");
  if (!contents.said.contains(path)) return false;
  const nlohmann::json& words = contents.said[path];
  return std::find(words.begin(), words.end(), "apply_tanh=False") != words.end();
}

// A limit that the module keeps as an attribute; 0 where it does not.
int limit_of(const Contents& contents, const char* name) {
  const nlohmann::json::json_pointer path(std::string("/objects//attributes/") + name);
  if (!contents.said.contains(path) || !contents.said[path].is_number_integer()) return 0;
  const auto limit = contents.said[path].get<std::int64_t>();
  constexpr std::int64_t kMost = 100'000;
  return limit >= 1 && limit <= kMost ? static_cast<int>(limit) : 0;
}

HanLayout layout_of(const Contents& contents, NetworkBuilder& net) {
  const std::string word = std::string(kWordNet) + ".", sentence = std::string(kSentenceNet) + ".";
  HanLayout layout{
      .embedding = word + "lookup.weight",
      .word = {word + "gru.", word + "word_weight", word + "word_bias", word + "context_weight"},
      .sentence = {sentence + "gru.", sentence + "sent_weight", sentence + "sent_bias",
                   sentence + "context_weight"},
      .output = sentence + "fc",
      .transposed = true,
      .unknown_row = 0,
      .first_row = 1,
      .vocabulary_advice = "the file of GloVe vectors that it was trained with (--word2vec_path)",
      .words_note = kNltkWords};
  HanConfig& config = layout.config;
  config.masked = false;
  config.carried = true;
  config.eps = 0;
  const int sentences = limit_of(contents, "max_sent_length");
  const int words = limit_of(contents, "max_word_length");
  config.max_sentences = sentences > 0 ? sentences : 30;
  config.max_words = words > 0 ? words : 35;
  layout.limits_said_by = sentences > 0 && words > 0
                              ? "attributes of the module"
                              : "the repository's defaults; padding is attended, so they matter";
  const bool drops[] = {source_drops_tanh(contents, kWordNet),
                        source_drops_tanh(contents, kSentenceNet)};
  const std::string score =
      net.choose("score",
                 drops[0]   ? drops[1] ? "plain" : "tanh_sentence"
                 : drops[1] ? "tanh_word"
                            : "tanh",
                 {"tanh", "plain", "tanh_sentence", "tanh_word"},
                 "forks leave the tanh around the scores out; their tensors are the same");
  config.tanh_word_score = score == "tanh" || score == "tanh_word";
  config.tanh_sentence_score = score == "tanh" || score == "tanh_sentence";
  // Classes count from 1 in its data.
  for (int i = 1; i <= net.extent(layout.output + ".weight", 0, 2); ++i)
    layout.classes.push_back(fmt::format("class {}", i));
  layout.text.strip_characters = "";
  layout.text.html_breaks = HtmlBreaks::kKeep;
  return layout;
}

std::optional<Imported> match_uvipen(const Contents& contents, const ImportOptions& options,
                                     std::string& why) {
  if (contents.find("word_att_net.lookup.weight") == nullptr) return std::nullopt;
  return match_han(contents, options, why,
                   [&](NetworkBuilder& net) { return layout_of(contents, net); });
}

}  // namespace

constinit const Family kUvipenFamily{"uvipen/Hierarchical-attention-networks-pytorch",
                                     "HAN: word_att_net.*, sent_att_net.*; state carried on",
                                     match_uvipen};

}  // namespace tessera
