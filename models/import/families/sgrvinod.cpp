// sgrvinod/a-PyTorch-Tutorial-to-Text-Classification: GRU, masked, a plain softmax over the scores.
// A checkpoint holds the whole module and its word map: <pad> 0, words, <unk> last.
#include "models/import/families/families.h"
#include "models/import/families/nltk.h"
#include "models/import/han_builder.h"

namespace tessera {
namespace {

std::optional<Imported> match_sgrvinod(const Contents& contents, const ImportOptions& options,
                                       std::string& why) {
  const std::string sentence = "sentence_attention.", word = sentence + "word_attention.";
  if (contents.find(word + "embeddings.weight") == nullptr) return std::nullopt;
  return match_han(contents, options, why, [&](NetworkBuilder&) {
    HanLayout layout{
        .embedding = word + "embeddings.weight",
        .word = {word + "word_rnn.", word + "word_attention.weight", word + "word_attention.bias",
                 word + "word_context_vector.weight"},
        .sentence = {sentence + "sentence_rnn.", sentence + "sentence_attention.weight",
                     sentence + "sentence_attention.bias",
                     sentence + "sentence_context_vector.weight"},
        .output = "fc",
        .unknown_row = -1,
        .first_row = 1,
        .padding_words = {"<pad>"},
        .unknown_words = {"<unk>"},
        .entries = {"word_map"},
        .vocabulary_advice = "the word_map.json that create_input_files.py wrote",
        .limits_said_by = "the limits of its classify.py",
        .words_note = kNltkWords};
    layout.config.eps = 0;
    layout.config.max_sentences = 15;
    layout.config.max_words = 20;
    layout.text.strip_characters = "";
    layout.text.html_breaks = HtmlBreaks::kNewline;
    layout.text.splitter.newlines = Newlines::kEvery;
    return layout;
  });
}

}  // namespace

constinit const Family kSgrvinodFamily{"sgrvinod/a-PyTorch-Tutorial-to-Text-Classification",
                                       "HAN: sentence_attention.word_attention.*, fc",
                                       match_sgrvinod};

}  // namespace tessera
