#include "models/text/sentence_splitter.h"

#include <algorithm>
#include <optional>

namespace tessera {
namespace {

using Text = std::span<const Character>;

constexpr char32_t kEllipsis = 0x2026;
constexpr size_t kListNumberDigits = 2;  // longer numbers at a line's start are years and amounts
// Longest run of characters examined before a full stop: the bound that keeps the walk linear.
constexpr size_t kLongestToken = 32;
constexpr size_t kLongestStarter = 16;

std::string normalised(std::string_view word, std::string_view what) {
  std::string lowered = lower_case(decode_strictly(word, what));
  while (lowered.ends_with('.')) lowered.pop_back();
  return lowered;
}

bool is_dash(char32_t code) {
  return code == '-' || (code >= 0x2010 && code <= 0x2015);
}

// The letters, digits and stops that run up to a full stop: "Mr", "e.g", "U.S", "12".
struct Token {
  std::u32string codes;
  bool stands_alone;  // nothing but a space, a dash or an opener before it
};

std::optional<Token> token_before(Text text, size_t stop, const CodePointSet& stripped) {
  Token token;
  size_t at = stop;
  for (; at > 0 && stop - at <= kLongestToken; --at) {
    const char32_t code = text[at - 1].code;
    if (stripped.contains(code)) continue;
    if (code != '.' && !is_letter(code) && !is_digit(code)) break;
    token.codes.push_back(code);
  }
  if (token.codes.empty() || stop - at > kLongestToken) return std::nullopt;
  std::reverse(token.codes.begin(), token.codes.end());
  const char32_t before = at == 0 ? U' ' : text[at - 1].code;
  token.stands_alone = is_white_space(before) || is_dash(before) || is_opener(before);
  return token;
}

// Capitals with stops between them: "J", "U.S", "J.R.R".
bool is_initials(std::u32string_view token) {
  for (size_t i = 0; i < token.size(); ++i) {
    if (i % 2 == 0 ? !is_upper(token[i]) : token[i] != '.') return false;
  }
  return token.size() % 2 == 1;
}

}  // namespace

SentenceSplitter::SentenceSplitter(const SplitterRules& rules, const CodePointSet& stripped)
    : terminators_(rules.terminators, "splitter.terminators"),
      wide_terminators_(rules.wide_terminators, "splitter.wide_terminators"),
      closers_(rules.closers, "splitter.closers"),
      stripped_(stripped),
      initials_(rules.initials),
      list_numbers_(rules.list_numbers),
      lower_case_continues_(rules.lower_case_continues),
      newlines_(rules.newlines) {
  add_abbreviations(rules.abbreviations, Abbreviation::kNeverEnds);
  add_abbreviations(rules.number_abbreviations, Abbreviation::kBeforeNumber);
  add_abbreviations(rules.closing_abbreviations, Abbreviation::kBeforeStarter);
  for (const std::string& word : rules.sentence_starters) {
    starters_.insert(normalised(word, "splitter.sentence_starters"));
  }
}

void SentenceSplitter::add_abbreviations(const std::vector<std::string>& words, Abbreviation kind) {
  for (const std::string& word : words) {
    abbreviations_.emplace(normalised(word, "the splitter's abbreviations"), kind);
  }
}

std::vector<SentenceSplitter::Range> SentenceSplitter::split(Text text) const {
  std::vector<Range> sentences;
  size_t begin = 0;
  size_t at = 0;
  const auto start_at = [&](size_t index) {
    begin = skip_white_space(text, index);
    at = skip_list_number(text, begin);
  };
  const auto end_at = [&](size_t end) {
    while (end > begin && is_white_space(text[end - 1].code)) --end;
    if (end > begin) sentences.push_back({begin, end});
  };

  start_at(0);
  while (at < text.size()) {
    const char32_t code = text[at].code;
    if (is_newline(code) && newline_ends_sentence(text, at)) {
      end_at(at);
      start_at(at);
    } else if (is_terminator(code)) {
      const size_t run_end = skip_terminators(text, at);
      const size_t closed = skip_closers(text, run_end);
      if (run_ends_sentence(text, at, run_end, closed)) {
        end_at(closed);
        start_at(closed);
      } else {
        at = closed;
      }
    } else {
      ++at;
    }
  }
  end_at(text.size());
  return sentences;
}

size_t SentenceSplitter::skip_white_space(Text text, size_t at) const {
  while (at < text.size() && is_white_space(text[at].code)) ++at;
  return at;
}

// The end of a list number such as "12." that starts at `at`, or `at`.
size_t SentenceSplitter::skip_list_number(Text text, size_t at) const {
  if (!list_numbers_) return at;
  size_t end = at;
  while (end < text.size() && end - at <= kListNumberDigits && is_digit(text[end].code)) ++end;
  const bool is_number = end > at && end - at <= kListNumberDigits && end + 1 < text.size() &&
                         text[end].code == '.' && is_white_space(text[end + 1].code);
  return is_number ? end + 1 : at;
}

// Over "?!", "..." and, where lower case may go on after an ellipsis, the spaced ". . .".
size_t SentenceSplitter::skip_terminators(Text text, size_t at) const {
  while (at < text.size() && is_terminator(text[at].code)) ++at;
  while (lower_case_continues_ && at + 1 < text.size() && text[at].code == ' ' &&
         text[at + 1].code == '.' && (at + 2 == text.size() || is_white_space(text[at + 2].code))) {
    at += 2;
  }
  return at;
}

size_t SentenceSplitter::skip_closers(Text text, size_t at) const {
  while (at < text.size() &&
         (closers_.contains(text[at].code) || stripped_.contains(text[at].code))) {
    ++at;
  }
  return at;
}

bool SentenceSplitter::newline_ends_sentence(Text text, size_t at) const {
  if (newlines_ == Newlines::kEvery) return true;
  const bool is_crlf = text[at].code == '\r' && at + 1 < text.size() && text[at + 1].code == '\n';
  size_t next = at + (is_crlf ? 2 : 1);
  while (next < text.size() && is_white_space(text[next].code) && !is_newline(text[next].code)) {
    ++next;
  }
  if (next == text.size()) return false;
  if (is_newline(text[next].code)) return newlines_ == Newlines::kBlankLine;
  return skip_list_number(text, next) != next;
}

// Whether the sentence ends after the terminators [run, run_end) and the closers up to `closed`.
bool SentenceSplitter::run_ends_sentence(Text text, size_t run, size_t run_end,
                                         size_t closed) const {
  bool only_stops = true;
  for (size_t i = run; i < run_end; ++i) {
    const char32_t code = text[i].code;
    if (wide_terminators_.contains(code)) return true;
    only_stops &= code == '.' || code == kEllipsis || code == ' ';
  }
  if (closed == text.size()) return true;
  if (!is_white_space(text[closed].code)) return false;

  size_t next = skip_white_space(text, closed);
  while (next < text.size() &&
         (is_opener(text[next].code) || stripped_.contains(text[next].code))) {
    ++next;
  }
  if (next == text.size()) return true;
  const bool is_single_stop = run_end - run == 1 && text[run].code == '.';
  if (lower_case_continues_ && is_lower(text[next].code)) {
    const bool is_ellipsis = only_stops && !is_single_stop;
    if (is_ellipsis || closed > run_end) return false;
  }
  return !(is_single_stop && stop_is_inside_sentence(text, run, next));
}

// Whether the full stop at `stop` belongs to an abbreviation after which the sentence goes on;
// `next` is the first character of the next word.
bool SentenceSplitter::stop_is_inside_sentence(Text text, size_t stop, size_t next) const {
  const std::optional<Token> token = token_before(text, stop, stripped_);
  if (!token || !token->stands_alone) return false;
  const auto found = abbreviations_.find(lower_case(token->codes));
  if (found != abbreviations_.end()) {
    switch (found->second) {
      case Abbreviation::kNeverEnds:
        return true;
      case Abbreviation::kBeforeNumber:
        if (is_digit(text[next].code)) return true;
        break;  // "p" is a page before a number, and "P" an initial before a name
      case Abbreviation::kBeforeStarter:
        return !starts_sentence(text, next);
    }
  }
  return initials_ && is_initials(token->codes) && !starts_sentence(text, next);
}

bool SentenceSplitter::starts_sentence(Text text, size_t at) const {
  if (!is_upper(text[at].code)) return false;
  std::u32string word;
  while (at < text.size() && word.size() <= kLongestStarter && is_letter(text[at].code)) {
    word.push_back(text[at++].code);
  }
  return starters_.contains(lower_case(word));
}

}  // namespace tessera
