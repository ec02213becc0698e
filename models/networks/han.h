// The hierarchical attention network (Yang et al. 2016), as the paper and as the Keras tutorial
// have it, as one builder over one configuration.
//
//   embedding -> word/rnn -> [word/dense] -> word/attention
//             -> sentence/rnn -> [sentence/dense] -> sentence/attention -> dropout -> output
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "engine/graph/graph.h"
#include "models/text/text.h"

namespace tessera {

struct HanConfig {
  int words = 0;       // rows of the embedding: padding, unknown, vocabulary
  int features = 100;  // of the embedding
  BiRnn::Cell cell = BiRnn::Cell::kGru;
  int units = 50;  // of each direction
  BiRnn::Gate gate = BiRnn::Gate::kSigmoid;
  bool reset_after = true;  // of a GRU
  int dense = 0;            // units of the layer between recurrence and attention; 0: none
  int attention = 100;      // units of the attention's hidden layer
  bool masked = true;       // false: padding takes part, as in the tutorial
  // Of a masked network: sentences that a document lacks take part, as vectors of 0, because no
  // mask leaves a Keras encoder.
  bool missing_sentences = false;
  double eps = 1e-7;     // of the attention's sum
  bool carried = false;  // the word level's state goes from sentence to sentence; not masked
  bool tanh_word_score = false;  // Attention's tanh_score, of each level
  bool tanh_sentence_score = false;
  int classes = 2;
  int max_sentences = 15;
  int max_words = 150;

  bool operator==(const HanConfig&) const = default;
};

nlohmann::json to_json(const HanConfig& config);
// Throws Error for unknown keys, wrong types and values out of range.
HanConfig han_config_from_json(const nlohmann::json& object);

// The network, unfused. Inputs: ids (documents, sentences, words), i32; if masked also word counts
// (documents, sentences) and sentence counts (documents), i32. Outputs, f32: probabilities
// (documents, classes), word attention (documents, sentences, words), sentence attention
// (documents, sentences).
Graph build_han(const HanConfig& config);

// Padded ids and lengths of a batch of documents, as the graph reads them.
struct HanBatch {
  std::int64_t documents = 0, sentences = 0, words = 0;
  std::vector<std::int32_t> ids;              // (documents, sentences, words), 0 = padding
  std::vector<std::int32_t> word_counts;      // (documents, sentences)
  std::vector<std::int32_t> sentence_counts;  // (documents)

  std::vector<TensorView> inputs(const HanConfig& config);
};

// Masked, the batch is as long as its longest document; unmasked it always has the model's size,
// because padding is part of the answer. Documents must fit the model's limits.
HanBatch batch_documents(const HanConfig& config, std::span<const Document> documents);

}  // namespace tessera
