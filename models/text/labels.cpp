#include "models/text/labels.h"

#include <fmt/ranges.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <utility>

#include "models/text/unicode.h"

namespace tessera {
namespace {

constexpr std::string_view kLabelNames[] = {"label",     "labels", "class",    "category",
                                            "sentiment", "target", "polarity", "rating",
                                            "stars",     "score",  "topic"};
constexpr std::string_view kTextNames[] = {"text",     "texts",    "review",  "reviews", "content",
                                           "document", "sentence", "comment", "body",    "tweet"};
constexpr std::string_view kRowNames[] = {"",   "#",  "id",     "idx", "index",
                                          "no", "nr", "number", "row"};
constexpr std::size_t kLongestColumnName = 40;

}  // namespace

std::string folded_label(std::string_view label) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto bytes = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(label.data()),
      static_cast<utf8proc_ssize_t>(label.size()), &mapped,
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT |
                                     UTF8PROC_CASEFOLD | UTF8PROC_IGNORE));
  if (bytes < 0) return std::string(label);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(mapped, std::free);
  const std::string_view folded(reinterpret_cast<const char*>(mapped),
                                static_cast<std::size_t>(bytes));
  std::string words;
  bool space = false;
  for (std::size_t at = 0; at < folded.size();) {
    const CodePoint point = decode_one(folded, at);
    if (is_white_space(point.code)) {
      space = !words.empty();
    } else {
      if (std::exchange(space, false)) words += ' ';
      words += folded.substr(at, point.bytes);
    }
    at += point.bytes;
  }
  return words;
}

std::vector<std::vector<std::string>> look_alikes(std::span<const std::string> labels) {
  std::unordered_map<std::string, std::size_t> places;
  std::vector<std::vector<std::string>> groups;
  for (const std::string& label : labels) {
    std::string folded = folded_label(label);
    // A table with a gap in a column of whole numbers is saved with "1.0" for "1".
    if (folded.ends_with(".0") &&
        is_whole_number(std::string_view(folded).substr(0, folded.size() - 2)))
      folded.resize(folded.size() - 2);
    const std::size_t place = places.emplace(std::move(folded), groups.size()).first->second;
    if (place == groups.size()) groups.emplace_back();
    if (std::ranges::find(groups[place], label) == groups[place].end())
      groups[place].push_back(label);
  }
  std::erase_if(groups, [](const auto& group) { return group.size() < 2; });
  return groups;
}

std::string look_alike_note(const std::vector<std::string>& group) {
  return fmt::format(
      "the labels \"{}\" look alike, but for white space, case, composed letters or a decimal "
      "point; if they are meant as one, write them as one",
      fmt::join(group, "\", \""));
}

bool looks_like_header(std::span<const std::string> columns) {
  bool known = false;
  for (const std::string& column : columns) {
    const std::string name = folded_label(column);
    if (name.empty() || name.size() > kLongestColumnName || is_whole_number(name)) return false;
    known |= is_label_name(name) || is_text_name(name);
    const bool is_word = std::ranges::all_of(name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
             static_cast<unsigned char>(c) >= 0x80;
    });
    if (!is_word) return false;
  }
  return known && columns.size() > 1;
}

bool is_label_name(std::string_view name) {
  return std::ranges::find(kLabelNames, folded_label(name)) != std::end(kLabelNames);
}

bool is_text_name(std::string_view name) {
  return std::ranges::find(kTextNames, folded_label(name)) != std::end(kTextNames);
}

bool is_row_name(std::string_view name) {
  return std::ranges::find(kRowNames, folded_label(name)) != std::end(kRowNames);
}

bool is_whole_number(std::string_view name) {
  if (name.starts_with('-') || name.starts_with('+')) name.remove_prefix(1);
  return !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace tessera
