#include "models/import/vocabulary_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "engine/files/json_text.h"
#include "engine/files/mapped_file.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/pickle.h"

namespace tessera {
namespace {

using Json = nlohmann::json;
constexpr std::int64_t kMostId = std::int64_t{1} << 30;
constexpr std::size_t kMostBytes = std::size_t{256} << 20;  // of JSON and pickles
constexpr std::size_t kMostWords = std::size_t{1} << 24;

// Words and ids as they come; finish() puts them in order.
class WordCollector {
 public:
  explicit WordCollector(const std::string& file) { result_.file = file; }

  VocabularyFile& result() { return result_; }

  // The words of one map replace each other as Python's do: of a word twice the last id counts.
  void add(std::string word, std::int64_t id) {
    require(id >= 0 && id <= kMostId,
            "{}: the word {} has the id {}, expected 0 to {}; give the word_index of the tokenizer",
            result_.file, in_quotes(word), id, kMostId);
    require(result_.entries.size() < kMostWords, "{}: it has more than {} words", result_.file,
            kMostWords);
    result_.entries.push_back({id, std::move(word)});
  }
  // The next word of a list; of one that is there twice the first place counts, as for list.index.
  void add(std::string word) { add(std::move(word), result_.listed++); }

  VocabularyFile finish() {
    std::vector<VocabularyFile::Entry>& entries = result_.entries;
    require(!entries.empty(), "{}: it has no words; expected {}", result_.file, kExpected);
    std::unordered_map<std::string_view, std::size_t> place;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const auto [known, added] = place.emplace(entries[i].word, i);
      if (!added && result_.has_ids) known->second = i;
    }
    std::vector<VocabularyFile::Entry> kept;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      // A word of the unknown id may be written like one of the text: both stay.
      const bool is_unknown = result_.unknown_id == entries[i].id;
      if (is_unknown || place.at(entries[i].word) == i)
        kept.push_back({entries[i].id, entries[i].word});
    }
    std::ranges::stable_sort(kept, {}, &VocabularyFile::Entry::id);
    if (kept.size() < entries.size())
      result_.notes.push_back(fmt::format("{} of {} words are there more than once",
                                          entries.size() - kept.size(), entries.size()));
    place.clear();
    entries = std::move(kept);
    find_unknown();
    return std::move(result_);
  }

  static constexpr std::string_view kExpected =
      "{word: row}, a list of words, a Keras tokenizer, a word a line, or word vectors";

 private:
  void find_unknown() {
    if (result_.unknown_id || !result_.has_ids) return;
    static constexpr std::string_view kNames[] = {"<unk>", "<UNK>", "[UNK]",      "_unk_",
                                                  "<OOV>", "<oov>", "_unk_word_", "<unknown>"};
    for (const VocabularyFile::Entry& entry : result_.entries) {
      if (std::ranges::count(kNames, entry.word) > 0) result_.unknown_id = entry.id;
    }
  }

  VocabularyFile result_;
};

// A JSON object of words and ids in the file's order, a word twice included: nlohmann's own objects
// keep the last one alone, and the boolean True of Keras' oov_token is written like the word
// "true".
class WordMapReader : public nlohmann::json_sax<Json> {
 public:
  explicit WordMapReader(WordCollector& collector) : collector_(collector) {}

  bool key(string_t& word) override {
    word_ = std::move(word);
    return true;
  }
  bool number_integer(number_integer_t id) override { return take(id); }
  bool number_unsigned(number_unsigned_t id) override {
    return take(id > static_cast<std::uint64_t>(kMostId) ? -1 : static_cast<std::int64_t>(id));
  }
  bool string(string_t& word) override {  // {"1": "the"}
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(word_.data(), word_.data() + word_.size(), id);
    if (error != std::errc() || end != word_.data() + word_.size()) return refuse("a text");
    collector_.add(std::move(word), id);
    return true;
  }
  bool start_object(std::size_t) override { return ++depth_ == 1 || refuse("an object"); }
  bool end_object() override { return true; }
  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("true or false"); }
  bool number_float(number_float_t, const string_t&) override { return refuse("a fraction"); }
  bool binary(binary_t&) override { return refuse("bytes"); }
  bool start_array(std::size_t) override { return refuse("a list"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t at, const std::string&, const Json::exception&) override {
    fail("{}: no JSON at byte {}; save the tokenizer again with to_json()",
         collector_.result().file, at);
  }

 private:
  bool take(std::int64_t id) {
    require(depth_ == 1, "{}: a number, expected words and their ids", collector_.result().file);
    collector_.add(std::move(word_), id);
    return true;
  }
  bool refuse(const char* what) const {
    fail("{}: the word {} has {}, expected its id, a whole number", collector_.result().file,
         in_quotes(word_), what);
  }

  WordCollector& collector_;
  std::string word_;
  int depth_ = 0;
};

void read_word_map(std::string_view text, WordCollector& collector) {
  WordMapReader reader(collector);
  Json::sax_parse(text, &reader);
  collector.result().has_ids = true;
}

// What a Keras Tokenizer says besides its words, as JSON or as a pickle's state.
struct TokenizerSettings {
  std::optional<std::string> filters, split, oov_token;
  bool lower = true, has_oov = false, char_level = false;
  std::int64_t num_words = 0;
};

void apply_settings(const TokenizerSettings& settings, WordCollector& collector) {
  VocabularyFile& result = collector.result();
  require(!settings.char_level,
          "{}: the tokenizer splits texts into characters (char_level); Tessera's read words",
          result.file);
  TextRules rules;
  rules.strip_characters.clear();
  rules.html_breaks = HtmlBreaks::kKeep;
  rules.white_space = WhiteSpace::kKeras;
  rules.lower_case = settings.lower;
  if (settings.filters) rules.filters = *settings.filters;
  if (settings.split) rules.split = *settings.split;
  rules.unknown_words = settings.has_oov ? UnknownWords::kIndex : UnknownWords::kDrop;
  try {
    validate(rules);
  } catch (const Error& error) {
    fail("{}: {}", result.file, error.what());
  }
  result.rules = rules;
  constexpr std::int64_t kOovId = 1;
  if (settings.has_oov) result.unknown_id = kOovId;
  if (settings.num_words > 0 && settings.num_words <= kMostId) result.id_limit = settings.num_words;
}

void read_tokenizer_json(const Json& tokenizer, WordCollector& collector) {
  const std::string& file = collector.result().file;
  const auto config = tokenizer.find("config");
  require(config != tokenizer.end() && config->is_object() && config->contains("word_index"),
          "{}: the tokenizer has no config with a word_index; save it with to_json()", file);
  TokenizerSettings settings;
  const auto text = [&](const char* key) -> std::optional<std::string> {
    const auto found = config->find(key);
    if (found == config->end() || !found->is_string()) return std::nullopt;
    return found->get<std::string>();
  };
  const auto flag = [&](const char* key, bool value) {
    const auto found = config->find(key);
    return found != config->end() && found->is_boolean() ? found->get<bool>() : value;
  };
  settings.filters = text("filters");
  settings.split = text("split");
  settings.lower = flag("lower", true);
  settings.char_level = flag("char_level", false);
  const auto oov = config->find("oov_token");
  settings.has_oov = oov != config->end() && !oov->is_null();
  const auto words = config->find("num_words");
  if (words != config->end() && words->is_number_integer())
    settings.num_words = words->get<std::int64_t>();
  apply_settings(settings, collector);
  const Json& index = config->at("word_index");
  require(index.is_string() || index.is_object(), "{}: word_index is no map of words", file);
  read_word_map(index.is_string() ? index.get_ref<const std::string&>() : index.dump(), collector);
}

void read_json(std::string_view text, WordCollector& collector, int level);

void read_json_value(const Json& value, std::string_view text, WordCollector& collector,
                     int level) {
  constexpr int kMostLevels = 4;  // of JSON inside of JSON's texts
  const std::string& file = collector.result().file;
  if (value.is_string()) {
    require(level < kMostLevels, "{}: JSON in JSON more than {} levels deep", file, kMostLevels);
    return read_json(value.get_ref<const std::string&>(), collector, level + 1);
  }
  if (value.is_object() && value.contains("class_name"))
    return read_tokenizer_json(value, collector);
  if (value.is_object()) return read_word_map(text, collector);
  require(value.is_array(), "{}: neither a map nor a list of words", file);
  for (const Json& word : value) {
    require(word.is_string(), "{}: entry {} of the list is {}, expected a word", file,
            collector.result().listed, word.type_name());
    collector.add(word.get<std::string>());
  }
}

void read_json(std::string_view text, WordCollector& collector, int level) {
  constexpr int kMostDepth = 8;  // a tokenizer has 2
  try {
    const Json value =
        parse_json(text, [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
          require(depth <= kMostDepth, "it nests deeper than {}", kMostDepth);
          return true;
        });
    read_json_value(value, text, collector, level);
  } catch (const Json::exception& error) {
    fail("{}: {}", collector.result().file, error.what());
  }
}

// A word that a pickle has: text, or bytes of Python 2; Keras' `oov_token=True` is the word True.
std::optional<std::string> word_of(const PickleValue& value) {
  if (value.is(PickleKind::kText) || value.is(PickleKind::kBytes)) return valid_utf8(value.text);
  if (value.is(PickleKind::kBool)) return value.integer != 0 ? "True" : "False";
  return std::nullopt;
}

void read_word_dict(const Pickle& pickle, const PickleValue& dict, WordCollector& collector) {
  const std::string& file = collector.result().file;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const PickleValue& key = pickle[dict.items[i]];
    const PickleValue& value = pickle[dict.items[i + 1]];
    const std::optional<std::string> word = word_of(key);
    if (word && value.is(PickleKind::kInt)) {
      collector.add(*word, value.integer);
    } else if (key.is(PickleKind::kInt) && word_of(value)) {  // index_word
      collector.add(*word_of(value), key.integer);
    } else {
      fail(
          "{}: entry {} of the dictionary is not a word and its id; give the tokenizer or its "
          "word_index",
          file, i / 2);
    }
  }
  collector.result().has_ids = true;
}

void read_pickle(std::span<const std::byte> bytes, WordCollector& collector) {
  const std::string file = collector.result().file;
  const Pickle pickle = Pickle::read(bytes, file);
  const PickleValue& root = pickle[pickle.root];
  if (root.is(PickleKind::kDict)) return read_word_dict(pickle, root, collector);
  if (root.is_sequence()) {
    for (const PickleRef item : root.items) {
      const std::optional<std::string> word = word_of(pickle[item]);
      require(word.has_value(), "{}: entry {} of the list is no word", file,
              collector.result().listed);
      collector.add(*word);
    }
    return;
  }
  const PickleValue& state = pickle.state(root);
  const PickleValue* index = pickle.find(state, "word_index");
  require(index != nullptr && index->is(PickleKind::kDict),
          "{}: a pickle of {}, expected a Keras Tokenizer, a dictionary or a list of words", file,
          root.is(PickleKind::kObject) ? in_quotes(pickle.class_name(root)) : "another value");
  TokenizerSettings settings;
  const auto text = [&](const char* key) -> std::optional<std::string> {
    const PickleValue* value = pickle.find(state, key);
    return value == nullptr ? std::nullopt : word_of(*value);
  };
  const auto flag = [&](const char* key, bool value) {
    const PickleValue* found = pickle.find(state, key);
    return found != nullptr && found->is(PickleKind::kBool) ? found->integer != 0 : value;
  };
  settings.filters = text("filters");
  settings.split = text("split");
  settings.lower = flag("lower", true);
  settings.char_level = flag("char_level", false);
  const PickleValue* oov = pickle.find(state, "oov_token");
  settings.has_oov = oov != nullptr && !oov->is(PickleKind::kNone);
  const PickleValue* words = pickle.find(state, "num_words");
  if (words != nullptr && words->is(PickleKind::kInt)) settings.num_words = words->integer;
  apply_settings(settings, collector);
  read_word_dict(pickle, *index, collector);
}

// The place of the blank before the last `count` fields of a line; npos where there are fewer.
std::size_t before_last_fields(std::string_view line, std::size_t count) {
  std::size_t at = line.size();
  for (std::size_t i = 0; i < count && at != std::string_view::npos && at > 0; ++i)
    at = line.find_last_of(" \t", at - 1);
  return at == 0 ? std::string_view::npos : at;
}

// How many numbers follow the word of a line; 0 where anything else does.
std::size_t numbers_behind(std::string_view line) {
  std::size_t count = 0;
  for (std::size_t at = line.find_first_of(" \t"); at < line.size(); ++count) {
    const std::size_t end = std::min(line.find_first_of(" \t", at + 1), line.size());
    double number = 0;
    const auto [behind, error] = std::from_chars(line.data() + at + 1, line.data() + end, number);
    if (error != std::errc() || behind != line.data() + end) return 0;
    at = end;
  }
  return count;
}

void read_lines(std::string_view text, WordCollector& collector) {
  const std::string& file = collector.result().file;
  require(text.find('\0') == std::string_view::npos, "{}: no vocabulary: expected {}", file,
          WordCollector::kExpected);
  // A file of vectors is known by its first line; word2vec's begins with `words width`.
  std::size_t width = 0;
  std::int64_t line_number = 0;
  for (std::size_t at = 0; at < text.size(); ++line_number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
    if (line.empty()) continue;
    const bool is_first = collector.result().entries.empty();
    const std::size_t numbers = is_first ? numbers_behind(line) : 0;
    if (line_number == 0 && numbers == 1 &&
        line.find_first_not_of("0123456789 \t") == std::string_view::npos)
      continue;
    if (is_first && numbers > 1) width = numbers;
    if (width > 0) {  // words may have blanks: GloVe's ". . ."
      const std::size_t word_end = before_last_fields(line, width);
      require(word_end != std::string_view::npos,
              "{}: line {} has no vector of {} numbers behind its word", file, line_number + 1,
              width);
      line = line.substr(0, word_end);
    }
    collector.add(valid_utf8(line));
  }
}

// Pickles of protocol 2 and later begin with a byte that no text has; older ones of dicts and lists
// with these letters.
bool may_be_pickle(std::string_view text) {
  constexpr std::string_view kBeginnings[] = {"\x80",           "(dp",  "(lp",
                                              "ccollections\n", "}q\1", "]q\1"};
  return std::ranges::any_of(kBeginnings,
                             [&](std::string_view begin) { return text.starts_with(begin); });
}

// Whether a text that begins with a bracket has it as its first word: JSON goes on otherwise.
bool is_list_from_bracket(std::string_view text) {
  return text.size() > 2 && text[1] == '\n' && std::strchr(" \t\n\"}]", text[2]) == nullptr;
}

// Why no document can hold the word, or why a vocabulary cannot.
bool is_word(const std::string& word) {
  return !word.empty() && word.size() <= Vocabulary::kMaxWordBytes &&
         word.find_first_of(std::string_view("\n\0", 2)) == std::string::npos;
}

}  // namespace

VocabularyFile read_vocabulary(std::span<const std::byte> bytes, const std::string& file) {
  WordCollector collector(file);
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_pickle = may_be_pickle(text);
  const bool is_json = !is_pickle && first != std::string_view::npos &&
                       std::strchr("{[\"", text[first]) != nullptr && text[first] != '\0';
  require(!(is_pickle || is_json) || bytes.size() <= kMostBytes,
          "{}: {} bytes, a vocabulary of this kind has at most {} MB", file, bytes.size(),
          kMostBytes >> 20);
  if (is_pickle) {
    read_pickle(bytes, collector);
  } else if (is_json && Json::accept(text)) {
    read_json(text, collector, 0);
  } else {
    require(!is_json || text[first] == '"' || is_list_from_bracket(text),
            "{}: begins as JSON does and is none; save the tokenizer again with to_json()", file);
    read_lines(text, collector);
  }
  return collector.finish();
}

std::optional<VocabularyFile> vocabulary_of(const nlohmann::json& value, const std::string& from) {
  WordCollector collector(from);
  collector.result().has_ids = value.is_object();
  if (!value.is_structured() || value.empty()) return std::nullopt;
  for (const auto& [word, id] : value.items()) {
    if (value.is_array() ? !id.is_string() : !id.is_number_integer()) return std::nullopt;
    if (value.is_array()) {
      collector.add(id.get<std::string>());
    } else {
      collector.add(word, id.get<std::int64_t>());
    }
  }
  return collector.finish();
}

VocabularyFile read_vocabulary_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path, "a vocabulary");
  return read_vocabulary(file.bytes(), path.string());
}

OrderedVocabulary order_vocabulary(const VocabularyFile& file, const StoredTensor& embedding,
                                   std::int64_t padding, std::optional<std::int64_t> first) {
  require(embedding.shape.size() == 2 && embedding.is_float() && embedding.shape[1] > 0,
          "the embedding {} is {} {}, expected floats (words, features)", in_quotes(embedding.name),
          name_of(embedding.type), shape_text(embedding.shape));
  const std::int64_t rows = embedding.shape[0];
  std::int64_t shift = 0;
  if (!file.has_ids) {
    shift = first.value_or(rows - file.listed);
    require(
        shift >= 0,
        "{}: {} words, but the embedding has {} rows; give the words that the model was trained "
        "with",
        file.file, file.listed, rows);
  }
  std::optional<std::int64_t> unknown = file.unknown_id;
  // A list of two rows fewer than the embedding leaves one for unknown words.
  if (!file.has_ids && !unknown && shift >= 2) unknown = 1;
  const std::int64_t limit = file.id_limit > 0 ? std::min(rows, file.id_limit) : rows;

  std::vector<std::int64_t> order{padding, unknown.value_or(padding)};
  std::vector<std::string> notes;
  std::string blob;
  std::int64_t beyond = 0, unusable = 0;
  std::unordered_map<std::string_view, std::size_t> seen;
  for (const VocabularyFile::Entry& entry : file.entries) {
    const std::int64_t id = entry.id + shift;
    if (id == padding || id == unknown) continue;
    if (id >= limit) {
      ++beyond;
    } else if (!is_word(entry.word) || !seen.emplace(entry.word, 0).second) {
      ++unusable;
    } else {
      order.push_back(id);
      (blob += entry.word) += '\n';
    }
  }
  require(!blob.empty(), "{}: none of its {} words has a row of the embedding {} {}", file.file,
          file.entries.size(), in_quotes(embedding.name), shape_text(embedding.shape));
  require(padding >= 0 && padding < rows && order[1] < rows,
          "the embedding {} has {} rows, none for padding or unknown words",
          in_quotes(embedding.name), rows);
  if (beyond > 0)
    notes.push_back(
        fmt::format("{} words of {} have no row in the embedding of {}, and are unknown", beyond,
                    file.entries.size(), limit));
  if (unusable > 0)
    notes.push_back(fmt::format("{} words are empty, too long or hold line breaks", unusable));

  const FloatTensor table = read_floats(embedding);
  const auto features = static_cast<std::size_t>(embedding.shape[1]);
  FloatTensor ordered{Shape{static_cast<std::int64_t>(order.size()), embedding.shape[1]}};
  for (std::size_t i = 0; i < order.size(); ++i)
    std::copy_n(table.values.begin() +
                    static_cast<std::ptrdiff_t>(order[i]) * static_cast<std::ptrdiff_t>(features),
                features, ordered.values.begin() + static_cast<std::ptrdiff_t>(i * features));
  return {Vocabulary::from_blob(blob), std::move(ordered), unknown.has_value(), std::move(notes)};
}

}  // namespace tessera
