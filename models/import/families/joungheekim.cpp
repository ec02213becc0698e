// JoungheeKim/Pytorch-Hierarchical-Attention-Network: GRU, masked, no bias in the attention, a
// plain softmax. Row 0 is [UNK], and padding; the words are those of a gensim file beside it.
#include "models/import/families/families.h"
#include "models/import/families/nltk.h"
#include "models/import/han_builder.h"

namespace tessera {
namespace {

// Of the arguments of its training, which its checkpoints hold.
int argument_of(const Contents& contents, const char* name, int otherwise) {
  const nlohmann::json::json_pointer path(std::string("/entries/config/state/") + name);
  if (!contents.said.contains(path) || !contents.said[path].is_number_integer()) return otherwise;
  const auto value = contents.said[path].get<std::int64_t>();
  constexpr std::int64_t kMost = 100'000;
  return value >= 1 && value <= kMost ? static_cast<int>(value) : otherwise;
}

std::optional<Imported> match_joungheekim(const Contents& contents, const ImportOptions& options,
                                          std::string& why) {
  if (contents.find("word_attention_model.emb.weight") == nullptr) return std::nullopt;
  return match_han(contents, options, why, [&](NetworkBuilder&) {
    const auto level = [](const std::string& name) -> HanLevelNames {
      return {name + ".rnn.", name + ".attn.linear.weight", "", name + ".attn.context_weight"};
    };
    HanLayout layout{
        .embedding = "word_attention_model.emb.weight",
        .word = level("word_attention_model"),
        .sentence = level("sentence_attention_model"),
        .output = "output",
        .unknown_row = 0,
        .first_row = 1,
        .unknown_words = {"[UNK]"},
        .vocabulary_advice = "a text of model.wv.index2word of its word2vec.model, one word a line",
        .lower_case = false,
        .limits_said_by = "its training's arguments, or their defaults",
        .words_note = kNltkWords};
    layout.config.eps = 0;
    layout.config.max_sentences = argument_of(contents, "max_sent_len", 10);
    layout.config.max_words = argument_of(contents, "max_word_len", 256);
    layout.text.strip_characters = "";
    layout.text.html_breaks = HtmlBreaks::kKeep;
    return layout;
  });
}

}  // namespace

constinit const Family kJoungheekimFamily{
    "JoungheeKim/Pytorch-Hierarchical-Attention-Network",
    "HAN: word_attention_model.*, sentence_attention_model.*, output", match_joungheekim};

}  // namespace tessera
