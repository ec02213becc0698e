#include "models/networks/han.h"

#include <algorithm>

#include "engine/files/json_fields.h"

namespace tessera {

namespace {

constexpr JsonNames<BiRnn::Cell, 2> kCellNames{
    {{BiRnn::Cell::kLstm, "lstm"}, {BiRnn::Cell::kGru, "gru"}}};
constexpr JsonNames<BiRnn::Gate, 2> kGateNames{
    {{BiRnn::Gate::kSigmoid, "sigmoid"}, {BiRnn::Gate::kHardSigmoid, "hard_sigmoid"}}};

constexpr int kMaxUnits = 1 << 14;
constexpr int kMaxWords = 1 << 30;
constexpr int kMaxLength = 1'000'000;  // sentences of a document, words of a sentence
constexpr int kMaxDocument = 1 << 22;  // words of a document, padding included

// One of the two levels: recurrence, optional dense layer, attention. Returns the pooled vectors;
// the attention weights are the value after it.
ValueId level(Graph& graph, const HanConfig& config, const std::string& name, ValueId x,
              std::optional<ValueId> lengths) {
  const bool of_words = name == "word";
  const BiRnn rnn{.cell = config.cell,
                  .units = config.units,
                  .gate = config.gate,
                  .reset_after = config.reset_after,
                  .masked = config.masked,
                  .carried = of_words && config.carried,
                  .embedding = std::nullopt};
  const auto with_lengths = [&](ValueId value) {
    return lengths ? std::vector{value, *lengths} : std::vector{value};
  };
  x = graph.add(name + "/rnn", rnn, with_lengths(x));
  if (config.dense > 0) x = graph.add(name + "/dense", Linear{.units = config.dense}, {x});
  return graph.add(
      name + "/attention",
      Attention{.units = config.attention,
                .masked = config.masked,
                .eps = config.eps,
                .tanh_score = of_words ? config.tanh_word_score : config.tanh_sentence_score},
      with_lengths(x));
}

}  // namespace

nlohmann::json to_json(const HanConfig& config) {
  nlohmann::json object{{"words", config.words},
                        {"features", config.features},
                        {"cell", json_name(config.cell, kCellNames)},
                        {"units", config.units},
                        {"gate", json_name(config.gate, kGateNames)},
                        {"reset_after", config.reset_after},
                        {"dense", config.dense},
                        {"attention", config.attention},
                        {"masked", config.masked},
                        {"eps", config.eps},
                        {"classes", config.classes},
                        {"max_sentences", config.max_sentences},
                        {"max_words", config.max_words}};
  // Younger than the format: written where they are set, so that files keep their bytes.
  for (const auto& [key, value] :
       {std::pair{"carried", config.carried}, std::pair{"tanh_word_score", config.tanh_word_score},
        std::pair{"tanh_sentence_score", config.tanh_sentence_score},
        std::pair{"missing_sentences", config.missing_sentences}})
    if (value) object[key] = true;
  return object;
}

HanConfig han_config_from_json(const nlohmann::json& object) {
  HanConfig config;
  JsonFields fields(object, "han");
  fields.read("words", config.words, 3, kMaxWords);
  fields.read("features", config.features, 1, kMaxUnits);
  fields.read("cell", config.cell, kCellNames);
  fields.read("units", config.units, 1, kMaxUnits);
  fields.read("gate", config.gate, kGateNames);
  fields.read("reset_after", config.reset_after);
  fields.read("dense", config.dense, 0, kMaxUnits);
  fields.read("attention", config.attention, 1, kMaxUnits);
  fields.read("masked", config.masked);
  fields.read("missing_sentences", config.missing_sentences);
  fields.read("eps", config.eps);
  fields.read("carried", config.carried);
  fields.read("tanh_word_score", config.tanh_word_score);
  fields.read("tanh_sentence_score", config.tanh_sentence_score);
  fields.read("classes", config.classes, 2, kMaxUnits);
  fields.read("max_sentences", config.max_sentences, 1, kMaxLength);
  fields.read("max_words", config.max_words, 1, kMaxLength);
  fields.refuse_unknown();
  require(config.words >= 3, "han.words: the rows of the embedding are missing");
  require(std::int64_t{config.max_sentences} * config.max_words <= kMaxDocument,
          "han: {} sentences of {} words are {} words, at most {} are supported",
          config.max_sentences, config.max_words,
          std::int64_t{config.max_sentences} * config.max_words, kMaxDocument);
  require(!config.carried || !config.masked,
          "han.carried: the state goes through padding; expected masked to be false");
  require(config.masked || !config.missing_sentences,
          "han.missing_sentences: an unmasked network has them anyway; leave it out");
  require(config.eps >= 0, "han.eps: expected a number of at least 0, found {}", config.eps);
  return config;
}

Graph build_han(const HanConfig& config) {
  Graph graph;
  const ValueId ids = graph.add_input("ids");
  std::optional<ValueId> word_counts, sentence_counts;
  if (config.masked) {
    word_counts = graph.add_input("word_counts");
    sentence_counts = graph.add_input("sentence_counts");
  }
  const ValueId embedded =
      graph.add("embedding", Embedding{.words = config.words, .features = config.features}, {ids});
  const ValueId sentences = level(graph, config, "word", embedded, word_counts);
  const ValueId document = level(graph, config, "sentence", sentences, sentence_counts);
  const ValueId dropped = graph.add("dropout", Dropout{}, {document});
  const ValueId logits = graph.add("output", Linear{.units = config.classes}, {dropped});
  const ValueId probabilities = graph.add("softmax", Softmax{}, {logits});
  graph.outputs = {probabilities, sentences + 1, document + 1};
  return graph;
}

std::vector<TensorView> HanBatch::inputs(const HanConfig& config) {
  std::vector<TensorView> views{{ids.data(), {DType::kI32, {documents, sentences, words}}}};
  if (config.masked) {
    views.push_back({word_counts.data(), {DType::kI32, {documents, sentences}}});
    views.push_back({sentence_counts.data(), {DType::kI32, {documents}}});
  }
  return views;
}

HanBatch batch_documents(const HanConfig& config, std::span<const Document> documents) {
  HanBatch batch;
  batch.documents = static_cast<std::int64_t>(documents.size());
  for (const Document& document : documents) {
    batch.sentences =
        std::max(batch.sentences, static_cast<std::int64_t>(document.sentences.size()));
    for (const Sentence& sentence : document.sentences)
      batch.words = std::max(batch.words, static_cast<std::int64_t>(sentence.words.size()));
  }
  require(batch.sentences <= config.max_sentences && batch.words <= config.max_words,
          "a document of {} sentences of up to {} words was given, the model takes {} x {}",
          batch.sentences, batch.words, config.max_sentences, config.max_words);
  if (!config.masked) {
    batch.sentences = config.max_sentences;
    batch.words = config.max_words;
  }
  if (config.missing_sentences) batch.sentences = config.max_sentences;

  batch.ids.assign(static_cast<std::size_t>(batch.documents * batch.sentences * batch.words), 0);
  batch.word_counts.assign(static_cast<std::size_t>(batch.documents * batch.sentences), 0);
  std::size_t row = 0;  // of (document, sentence)
  for (const Document& document : documents) {
    batch.sentence_counts.push_back(config.missing_sentences
                                        ? static_cast<std::int32_t>(config.max_sentences)
                                        : static_cast<std::int32_t>(document.sentences.size()));
    for (std::size_t i = 0; i < document.sentences.size(); ++i) {
      const std::vector<Word>& words = document.sentences[i].words;
      batch.word_counts[row + i] = static_cast<std::int32_t>(words.size());
      std::int32_t* ids = batch.ids.data() + (row + i) * static_cast<std::size_t>(batch.words);
      for (const Word& word : words) *ids++ = word.id;
    }
    row += static_cast<std::size_t>(batch.sentences);
  }
  return batch;
}

}  // namespace tessera
