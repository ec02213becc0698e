#include "models/text/word_vectors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/text/text_stream.h"

namespace tessera {
namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
constexpr int kMaxWidth = 1 << 14;

bool separates(char c) {
  return c == ' ' || c == '\t';
}

std::size_t fields_of(std::string_view line) {
  std::size_t fields = 0;
  for (std::size_t i = 0; i < line.size(); ++i)
    fields += !separates(line[i]) && (i == 0 || separates(line[i - 1]));
  return fields;
}

// Cuts the last field off; empty if there is none.
std::string_view take_last(std::string_view& line) {
  while (!line.empty() && separates(line.back())) line.remove_suffix(1);
  std::size_t begin = line.size();
  while (begin > 0 && !separates(line[begin - 1])) --begin;
  const std::string_view field = line.substr(begin);
  line.remove_suffix(field.size());
  return field;
}

template <class Number>
std::optional<Number> parsed(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The width that a first line `words d` announces.
std::optional<std::int64_t> header_width(std::string_view line) {
  if (fields_of(line) != 2) return std::nullopt;
  const auto width = parsed<std::int64_t>(take_last(line));
  const auto words = parsed<std::int64_t>(take_last(line));
  return words ? width : std::nullopt;
}

}  // namespace

double WordVectors::word_coverage() const {
  const auto words = static_cast<double>(found.size()) - Vocabulary::kFirstWordId;
  return words > 0 ? static_cast<double>(words_found) / words : 0;
}

double WordVectors::text_coverage(std::span<const std::int64_t> occurrences) const {
  std::int64_t all = 0, covered = 0;
  for (std::size_t id = 0; id < std::min(occurrences.size(), found.size()); ++id) {
    all += occurrences[id];
    if (found[id]) covered += occurrences[id];
  }
  return all > 0 ? static_cast<double>(covered) / static_cast<double>(all) : 0;
}

WordVectors load_word_vectors(const std::string& path, const Vocabulary& vocabulary,
                              const WordVectorOptions& options, DataReport& report) {
  TextStream stream(path);
  const auto ids = static_cast<std::size_t>(vocabulary.size());
  WordVectors vectors;
  vectors.found.resize(ids);
  std::vector<std::size_t> line_of(ids);  // where a word was found
  std::string line;
  for (std::size_t number = 1; stream.read_line(line, kMaxLineBytes + 1); ++number) {
    require(line.size() <= kMaxLineBytes, "{}, line {}: more than {} bytes; is it word vectors?",
            path, number, kMaxLineBytes);
    std::string_view rest = line;
    while (!rest.empty() && (rest.back() == '\r' || separates(rest.back()))) rest.remove_suffix(1);
    if (rest.empty()) continue;
    if (vectors.width == 0) {
      const std::optional<std::int64_t> header = header_width(rest);
      const std::int64_t width = header.value_or(static_cast<std::int64_t>(fields_of(rest)) - 1);
      require(width >= 1 && width <= kMaxWidth,
              "{}, line {}: expected a word and its vector, `word v1 v2 ...`, found {} fields; is "
              "it word vectors?",
              path, number, fields_of(rest));
      require(options.width == 0 || width == options.width,
              "{}, line {}: vectors of {} numbers, the embedding has {}; choose other vectors or "
              "another width",
              path, number, width, options.width);
      vectors.width = static_cast<int>(width);
      vectors.rows.resize(ids * static_cast<std::size_t>(width));
      if (header) continue;
    }

    const auto width = static_cast<std::size_t>(vectors.width);
    const std::size_t fields = fields_of(rest);
    // Some GloVe files have words with spaces in them, so that only a lack can be told from here;
    // too many numbers show in the word, below.
    if (fields < width + 1) {
      report.problem(path, number,
                     fmt::format("expected a word and {} numbers, found {} fields; correct or "
                                 "remove the line",
                                 width, fields));
      continue;
    }
    ++vectors.lines;
    std::string_view word = rest;
    for (std::size_t i = 0; i < width; ++i) take_last(word);
    std::string_view values = rest.substr(word.size());
    while (!word.empty() && separates(word.back())) word.remove_suffix(1);
    if (fields > width + 1) {
      // `word v1 v2 ... vd v(d+1)`: what the surplus makes of the word ends in a number.
      std::string_view head = word;
      if (parsed<double>(take_last(head)) && !word.empty()) {
        report.problem(path, number,
                       fmt::format("expected a word and {} numbers, found {} fields; correct or "
                                   "remove the line",
                                   width, fields));
        continue;
      }
    }
    const std::int32_t id = vocabulary.find(word);
    if (id < Vocabulary::kFirstWordId) continue;
    const auto row = static_cast<std::size_t>(id);
    if (vectors.found[row]) {
      report.problem(path, number,
                     fmt::format("the word \"{}\" has a vector on line {} already; remove one",
                                 word, line_of[row]));
      continue;
    }
    bool sound = true;
    for (std::size_t i = width; i-- > 0 && sound;) {
      const std::string_view field = take_last(values);
      // As double, where numbers that f32 rounds to 0 can be read.
      const auto value = static_cast<float>(
          parsed<double>(field).value_or(std::numeric_limits<double>::infinity()));
      sound = std::isfinite(value);
      if (sound) {
        vectors.rows[row * width + i] = value;
      } else {
        report.problem(
            path, number,
            fmt::format("\"{}\" at place {} of the vector of \"{}\" is no finite number; "
                        "correct or remove the line",
                        field.substr(0, 40), i + 1, word));
      }
    }
    if (!sound) continue;
    vectors.found[row] = true;
    line_of[row] = number;
    ++vectors.words_found;
  }
  require(vectors.lines > 0, "{}: no word vectors, `word v1 v2 ...` line by line; give others",
          path);

  const auto width = static_cast<std::size_t>(vectors.width);
  for (std::size_t id = Vocabulary::kUnknownId; id < ids; ++id) {
    if (vectors.found[id]) continue;
    const std::string_view word =
        id < Vocabulary::kFirstWordId ? "" : vocabulary.word(static_cast<std::int32_t>(id));
    Random random(options.seed, stream_of(fmt::format("word vector/{}", word)));
    for (std::size_t i = 0; i < width; ++i) {
      vectors.rows[id * width + i] =
          static_cast<float>(random.uniform(-options.missing_range, options.missing_range));
    }
  }
  return vectors;
}

}  // namespace tessera
