#include "models/import/han_builder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/image/mask.h"
#include "models/import/vocabulary_file.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

constexpr int kMostUnits = 1 << 14;  // HanConfig's

// Weights of one level under the names of the model file; sizes go into `config`, or must agree
// with those of the level before.
void give_level(NetworkBuilder& net, const std::string& level, const HanLevelNames& names,
                bool transposed, int inputs, HanConfig& config) {
  const bool first = level == "word";
  require(!net.has(names.rnn + "weight_ih_l1"),
          "its {} level has several recurrent layers; Tessera's HAN has one", level);
  const std::string hidden = names.rnn + "weight_hh_l0";
  const int units = net.extent(hidden, 1, 2), gates = net.extent(hidden, 0, 2);
  if (gates != 3 * units && gates != 4 * units)
    throw OtherNetwork(fmt::format("the tensor {} is of no GRU or LSTM", in_quotes(hidden)));
  const BiRnn::Cell cell = gates == 3 * units ? BiRnn::Cell::kGru : BiRnn::Cell::kLstm;
  const int attention = net.extent(names.weight, transposed ? 1 : 0, 2);
  require(units <= kMostUnits && attention <= kMostUnits, "{} units; at most {} are supported",
          std::max(units, attention), kMostUnits);
  if (first) {
    config.cell = cell;
    config.units = units;
    config.attention = attention;
  }
  require(cell == config.cell && units == config.units && attention == config.attention,
          "its two levels have {} and {} recurrent units, {} and {} of attention; Tessera's HAN "
          "has as many at both",
          config.units, units, config.attention, attention);
  for (const char* suffix : {"", "_reverse"}) {
    const auto give = [&](const char* ours, const char* theirs, const Shape& shape) {
      const std::string name = fmt::format("{}{}_l0{}", names.rnn, theirs, suffix);
      net.give_as(fmt::format("{}/rnn/{}{}", level, ours, suffix),
                  net.tensor(name, static_cast<std::size_t>(shape.rank())), shape);
    };
    give("weight_ih", "weight_ih", {gates, inputs});
    give("weight_hh", "weight_hh", {gates, units});
    give("bias_ih", "bias_ih", {gates});
    give("bias_hh", "bias_hh", {gates});
  }

  const std::string attend = level + "/attention/";
  const int width = 2 * units;
  const StoredTensor& weight = net.tensor(names.weight, 2);
  if (transposed) {
    if (weight.shape[0] != width)
      throw OtherNetwork(fmt::format("the tensor {} has the shape {}, expected ({}, {})",
                                     in_quotes(names.weight), shape_text(weight.shape), width,
                                     attention));
    constexpr std::array<int, 2> kSwapped{1, 0};
    net.ignore(names.weight);
    net.give_as(attend + "weight", read_floats(weight, kSwapped));
  } else {
    net.give_as(attend + "weight", weight, {attention, width});
  }
  const auto any_rank = [&](const std::string& name) -> const StoredTensor& {
    return net.tensor(name, net.rank(name));
  };
  if (names.bias.empty())
    net.give_as(attend + "bias", FloatTensor(Shape{attention}));
  else
    net.give_as(attend + "bias", any_rank(names.bias), {attention});
  net.give_as(attend + "context", any_rank(names.context), {attention});
}

// The vocabulary that the user names, else that of the checkpoint.
VocabularyFile find_words(const Contents& contents, const ImportOptions& options,
                          const HanLayout& layout) {
  if (!options.vocabulary.empty()) return read_vocabulary_file(options.vocabulary);
  if (const auto entries = contents.said.find("entries"); entries != contents.said.end()) {
    for (const std::string& name : layout.entries) {
      const auto entry = entries->find(name);
      if (entry == entries->end()) continue;
      if (std::optional<VocabularyFile> list = vocabulary_of(*entry, name)) return *std::move(list);
    }
  }
  fail("{}: it holds no vocabulary, without which no text can be read; give it with --vocabulary{}",
       contents.file, layout.vocabulary_advice.empty() ? "" : ": " + layout.vocabulary_advice);
}

bool is_among(const std::string& word, const std::vector<std::string>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool fits_a_vocabulary(std::string_view word) {
  if (word.empty() || word.size() > Vocabulary::kMaxWordBytes) return false;
  for (std::size_t at = 0; at < word.size();) {
    const CodePoint point = decode_one(word, at);
    if (!point.valid || point.code == U'\0' || point.code == U'\n') return false;
    at += point.bytes;
  }
  return true;
}

// Which row of the file's embedding each row of ours is: padding, unknown, then the words.
struct Rows {
  std::vector<std::int64_t> sources;
  std::string blob;  // of the vocabulary
};

Rows match_rows(const VocabularyFile& list, std::int64_t rows, const HanLayout& layout,
                NetworkBuilder& net) {
  const auto at = [&](std::int64_t row) { return row < 0 ? rows + row : row; };
  std::int64_t padding = at(layout.padding_row), unknown = at(layout.unknown_row);
  std::int64_t first = 0;
  if (!list.has_ids) {
    const std::int64_t special = rows - list.listed;
    const std::int64_t beside =
        layout.first_row + (layout.unknown_row < 0 ? -layout.unknown_row : 0);
    require(special == 0 || special == beside,
            "{}: a list of {} words, but the embedding has {} rows: expected {} words, or {} with "
            "its special ones",
            list.file, list.listed, rows, rows - beside, rows);
    first = special == 0 ? 0 : layout.first_row;
  }
  std::vector<std::pair<std::int64_t, const std::string*>> words;
  std::size_t left_out = 0;
  for (const VocabularyFile::Entry& entry : list.entries) {
    if (list.id_limit > 0 && entry.id >= list.id_limit) continue;
    const std::int64_t row = entry.id + first;
    require(row < rows,
            "{}: the word {} has row {} of an embedding of {} rows; give the words that the model "
            "was trained with",
            list.file, in_quotes(entry.word), row, rows);
    if (is_among(entry.word, layout.padding_words)) {
      padding = row;
    } else if (is_among(entry.word, layout.unknown_words)) {
      unknown = row;
    } else if (!fits_a_vocabulary(entry.word)) {
      ++left_out;
    } else {
      words.emplace_back(row, &entry.word);
    }
  }
  // Words that share the unknown one's row are unknown.
  std::erase_if(words,
                [&](const auto& word) { return word.first == unknown || word.first == padding; });
  require(!words.empty(), "{}: no word of it has a row of its own", list.file);
  std::sort(words.begin(), words.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : *a.second < *b.second;
  });
  if (left_out > 0)
    net.note(fmt::format("{} words of the vocabulary are empty, overlong or no UTF-8: left out",
                         left_out));
  Rows result;
  result.sources = {padding, unknown};
  for (const auto& [row, word] : words) {
    result.sources.push_back(row);
    (result.blob += *word) += '\n';
  }
  return result;
}

}  // namespace

Imported build_han_of(NetworkBuilder& net, const Contents& contents, const ImportOptions& options,
                      HanLayout layout) {
  HanConfig& config = layout.config;
  const StoredTensor& embedding = net.tensor(layout.embedding, 2);
  const std::int64_t rows = embedding.shape[0];
  config.features = net.extent(layout.embedding, 1, 2);
  try {
    give_level(net, "word", layout.word, layout.transposed, config.features, config);
    give_level(net, "sentence", layout.sentence, layout.transposed, 2 * config.units, config);
  } catch (const OtherNetwork&) {
    throw;
  } catch (const Error& error) {
    fail("{}: {}", contents.file, error.what());
  }
  config.classes = net.extent(layout.output + ".weight", 0, 2);
  net.give_as("output/weight", net.tensor(layout.output + ".weight", 2),
              {config.classes, 2 * config.units});
  net.give_as("output/bias", net.tensor(layout.output + ".bias", 1), {config.classes});
  net.ignore(layout.embedding);
  net.require_all_used();
  require(
      config.classes >= 2,
      "{}: it has one output, as for a regression; Tessera's HAN tells at least 2 classes apart",
      contents.file);

  const VocabularyFile list = find_words(contents, options, layout);
  const Rows matched = match_rows(list, rows, layout, net);
  config.words = static_cast<int>(matched.sources.size());
  bool same = std::cmp_equal(matched.sources.size(), rows);
  for (std::size_t i = 0; i < matched.sources.size() && same; ++i)
    same = std::cmp_equal(matched.sources[i], i);
  if (same) {
    net.give_as("embedding/weight", embedding, Shape(embedding.shape));
  } else {
    const FloatTensor all = read_floats(embedding);
    FloatTensor chosen(Shape{config.words, config.features});
    const auto width = static_cast<std::size_t>(config.features);
    for (std::size_t i = 0; i < matched.sources.size(); ++i)
      std::copy_n(&all.values[static_cast<std::size_t>(matched.sources[i]) * width], width,
                  &chosen.values[i * width]);
    net.give_as("embedding/weight", std::move(chosen));
  }

  config.max_sentences = net.choose("max_sentences", config.max_sentences, layout.limits_said_by);
  config.max_words = net.choose("max_words", config.max_words, layout.limits_said_by);
  TextRules& text = layout.text;
  if (net.choose("sentences", layout.sentences_by_rules ? "english" : "plain", {"english", "plain"},
                 "how texts were cut is not in the file") == "plain") {
    const Newlines newlines = text.splitter.newlines;
    text.splitter = SplitterRules::plain();
    if (newlines == Newlines::kEvery) text.splitter.newlines = newlines;
  }
  text.lower_case = net.choose("lower_case", layout.lower_case ? "yes" : "no", {"yes", "no"},
                               "how texts were cut is not in the file") == "yes";
  text.unknown_words = UnknownWords::kIndex;
  text.max_sentences = config.max_sentences;
  text.max_words = config.max_words;
  if (!layout.words_note.empty()) net.note(layout.words_note);
  net.note(fmt::format("vocabulary: {} words from {}", matched.sources.size() - 2, list.file));

  ModelConfig model;
  model.text = text;
  for (const Rgb& colour : default_colours(config.classes)) {
    const std::size_t i = model.classes.size();
    model.classes.push_back(
        {i < layout.classes.size() ? layout.classes[i] : fmt::format("class {}", i), colour});
  }
  model.han = config;
  return net.finish(std::move(model), Vocabulary::from_blob(matched.blob));
}

}  // namespace tessera
