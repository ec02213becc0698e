#include "models/import/word_list.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "engine/files/json_text.h"
#include "engine/files/mapped_file.h"
#include "kernels/error.h"
#include "models/import/pickle.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostRows = std::int64_t{1} << 30;
constexpr std::size_t kMostWords = std::size_t{1} << 24;

// A file's JSON may be a text that holds JSON, and that again.
json parse_nested(std::string_view text) {
  constexpr int kDepth = 3;
  json value = parse_json(text);
  for (int depth = 0; depth < kDepth && value.is_string(); ++depth)
    value = parse_json(value.get_ref<const std::string&>());
  return value;
}

// The word_index of a Keras tokenizer: {"class_name": .., "config": {"word_index": "<JSON>"}} of
// to_json(), or the state of a pickled one.
const json* word_index_of(const json& value) {
  for (const char* place : {"config", "state"}) {
    const auto inner = value.find(place);
    if (inner == value.end() || !inner->is_object()) continue;
    const auto index = inner->find("word_index");
    if (index != inner->end()) return &*index;
  }
  return nullptr;
}

bool is_number(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// The first field of a line; how many numbers follow it, or -1 where something else does.
std::pair<std::string_view, int> fields_of(std::string_view line) {
  const std::size_t first = line.find_first_of(" \t");
  const std::string_view word = line.substr(0, first);
  int numbers = 0;
  for (std::size_t at = first; at != std::string_view::npos && at < line.size();) {
    const std::size_t begin = line.find_first_not_of(" \t", at);
    if (begin == std::string_view::npos) break;
    at = std::min(line.find_first_of(" \t", begin), line.size());
    if (!is_number(line.substr(begin, at - begin))) return {word, -1};
    ++numbers;
  }
  return {word, numbers};
}

WordList words_of_text(std::string_view text, std::string from) {
  WordList list{.from = std::move(from), .words = {}, .rows = {}, .kind = "list of words"};
  std::unordered_set<std::string> seen;
  std::int64_t row = 0;
  bool doubled = false;
  constexpr int kFewestNumbers = 2;  // "New 1" may be a word; a vector has more
  bool vectors = false;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto [word, numbers] = fields_of(line);
    // word2vec's first line is "words width".
    if (line_number == 1 && numbers == 1 && is_number(word)) continue;
    if (row == 0) vectors = numbers >= kFewestNumbers;
    if (vectors) list.kind = "word vectors";
    require(list.words.size() < kMostWords, "{}: more than {} words", list.from, kMostWords);
    const std::string kept(vectors ? word : line);
    if (!kept.empty() && seen.insert(kept).second) {
      list.words.push_back(kept);
      list.rows.push_back(row);
    } else {
      doubled = true;
    }
    ++row;
  }
  if (!doubled) list.rows.clear();
  require(!list.words.empty(), "{}: it holds no words; expected one a line", list.from);
  return list;
}

}  // namespace

std::optional<WordList> word_list_of(const json& value, std::string from) {
  WordList list{.from = std::move(from), .words = {}, .rows = {}, .kind = "word map"};
  if (value.is_array()) {
    list.kind = "list of words";
    std::unordered_set<std::string_view> seen;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (!value[i].is_string()) return std::nullopt;
      const std::string& word = value[i].get_ref<const std::string&>();
      if (!seen.insert(word).second) continue;
      list.words.push_back(word);
      list.rows.push_back(static_cast<std::int64_t>(i));
    }
    if (list.words.size() == value.size()) list.rows.clear();
  } else if (value.is_object()) {
    for (const auto& [word, row] : value.items()) {
      if (!row.is_number()) return std::nullopt;
      const double number = row.get<double>();
      if (!(number >= 0 && number <= static_cast<double>(kMostRows)) ||
          number != std::floor(number))
        return std::nullopt;
      list.words.push_back(word);
      list.rows.push_back(static_cast<std::int64_t>(number));
    }
  }
  if (list.words.empty()) return std::nullopt;
  return list;
}

WordList read_word_list(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path, "a vocabulary");
  const std::string name = path.string();
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  // Pickles of protocol 2 and later begin with a byte that no text has; older ones of dicts and
  // lists with these letters.
  const bool is_pickle = text.starts_with('\x80') || text.starts_with("(dp") ||
                         text.starts_with("(lp") || text.starts_with("ccollections\n") ||
                         text.starts_with("}q\1") || text.starts_with("]q\1");
  json value;
  if (is_pickle) {
    const Pickle pickle = Pickle::read(file.bytes(), name);
    constexpr int kDepth = 8;
    std::size_t budget = std::size_t{1} << 24;
    value = pickle.to_json(pickle.root, kDepth, budget);
  } else if (text.starts_with('{') || text.starts_with('[') || text.starts_with("\"{")) {
    try {
      value = parse_nested(text);
    } catch (const Error& error) {
      // A list of words may begin with a bracket as a word.
      if (text.starts_with("[\n") || text.starts_with("{\n")) return words_of_text(text, name);
      fail("{}: {}", name, error.what());
    }
  } else {
    return words_of_text(text, name);
  }
  const json* index = value.is_object() ? word_index_of(value) : nullptr;
  const json nested = index != nullptr && index->is_string()
                          ? parse_nested(index->get_ref<const std::string&>())
                          : json();
  std::optional<WordList> list = word_list_of(!nested.is_null()  ? nested
                                              : index != nullptr ? *index
                                                                 : value,
                                              name);
  require(
      list.has_value(),
      "{}: it holds no vocabulary: expected {{word: row}}, a list of words, a Keras tokenizer, a "
      "word a line, or word vectors",
      name);
  return *std::move(list);
}

}  // namespace tessera
