// cedias/Hierarchical-Sentiment: GRU, masked, exp / (sum + 1e-4). The word map lies in the state
// dict: _pad_ 0, _unk_ 1, and words that were to be unknown with 1 as well. An older generation
// calls the recurrent layer gru and has buffers.
#include "models/import/families/families.h"
#include "models/import/han_builder.h"

namespace tessera {
namespace {

std::optional<Imported> match_cedias(const Contents& contents, const ImportOptions& options,
                                     std::string& why) {
  if (contents.find("word.emb_att.att_w.weight") == nullptr) return std::nullopt;
  return match_han(contents, options, why, [&](NetworkBuilder& net) {
    const std::string rnn = net.has("word.gru.weight_ih_l0") ? "gru." : "rnn.";
    const auto level = [&](const std::string& name) -> HanLevelNames {
      net.ignore(name + ".att_w.weight");  // not used by its own code
      net.ignore(name + ".emb_att.mask");
      return {name + "." + rnn, name + ".lin.weight", name + ".lin.bias",
              name + ".emb_att.att_w.weight"};
    };
    net.ignore("reviews");
    HanLayout layout{.embedding = "embed.weight",
                     .word = level("word"),
                     .sentence = level("sent"),
                     .output = "lin_out",
                     .padding_words = {"_pad_", "_padding_"},
                     .unknown_words = {"_unk_", "_unk_word_"},
                     .entries = {"word_dic"},
                     .vocabulary_advice = "its word_dic as JSON",
                     .limits_said_by = "it has none; these bound the memory",
                     .words_note =
                         "its words were cut by spaCy; ours cuts at white space and "
                         "punctuation, so answers on texts differ somewhat (on word ids "
                         "they are the same)"};
    layout.config.eps = 1e-4;
    layout.config.max_sentences = 100;
    layout.config.max_words = 200;
    layout.text.strip_characters = "";
    layout.text.html_breaks = HtmlBreaks::kKeep;
    return layout;
  });
}

}  // namespace

constinit const Family kCediasFamily{"cedias/Hierarchical-Sentiment",
                                     "HAN: embed, word.*, sent.*, lin_out", match_cedias};

}  // namespace tessera
