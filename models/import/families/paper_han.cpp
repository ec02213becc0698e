// The paper's HAN (Yang et al. 2016) as a plain PyTorch module: embedding, word_gru,
// word_attention.{W, u}, sentence_gru, sentence_attention.{W, u}, output; masked, a plain softmax.
#include "models/import/families/families.h"
#include "models/import/han_builder.h"

namespace tessera {
namespace {

std::optional<Imported> match_paper_han(const Contents& contents, const ImportOptions& options,
                                        std::string& why) {
  if (contents.find("word_attention.u") == nullptr) return std::nullopt;
  return match_han(contents, options, why, [&](NetworkBuilder& net) {
    const auto level = [&](const std::string& name) -> HanLevelNames {
      const std::string rnn = net.has(name + "_lstm.weight_ih_l0") ? "_lstm." : "_gru.";
      return {name + rnn, name + "_attention.W.weight", name + "_attention.W.bias",
              name + "_attention.u"};
    };
    HanLayout layout{.embedding = "embedding.weight",
                     .word = level("word"),
                     .sentence = level("sentence"),
                     .output = "output",
                     .padding_words = {"<pad>"},
                     .unknown_words = {"<unk>"},
                     .entries = {"vocabulary", "word_map", "word_index"},
                     .vocabulary_advice = "a word a line, the first for row 2 of the embedding",
                     .sentences_by_rules = false,
                     .limits_said_by = "usual for its sizes"};
    layout.config.eps = 0;
    layout.config.max_sentences = 20;
    layout.config.max_words = 40;
    return layout;
  });
}

}  // namespace

constinit const Family kPaperHanFamily{"HAN of the paper",
                                       "embedding, word_gru, word_attention.*, sentence_*, output",
                                       match_paper_han};

}  // namespace tessera
