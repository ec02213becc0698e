// Where the sentences of a text begin and end. Internal to the text pipeline.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "models/text/text.h"
#include "models/text/unicode.h"

namespace tessera {

class SentenceSplitter {
 public:
  struct Range {
    size_t begin;  // indices of characters
    size_t end;
  };

  // The splitter sees the `stripped` characters, which are mostly quotes, and takes them for
  // closers and openers, so that `"Stop!" he said.` stays one sentence.
  SentenceSplitter(const SplitterRules& rules, const CodePointSet& stripped);

  // The sentences in order, without the white space around them; none is empty.
  std::vector<Range> split(std::span<const Character> text) const;

 private:
  enum class Abbreviation { kNeverEnds, kBeforeNumber, kBeforeStarter };

  size_t skip_white_space(std::span<const Character> text, size_t at) const;
  size_t skip_list_number(std::span<const Character> text, size_t at) const;
  size_t skip_terminators(std::span<const Character> text, size_t at) const;
  size_t skip_closers(std::span<const Character> text, size_t at) const;
  bool newline_ends_sentence(std::span<const Character> text, size_t at) const;
  bool run_ends_sentence(std::span<const Character> text, size_t run, size_t run_end,
                         size_t closed) const;
  bool stop_is_inside_sentence(std::span<const Character> text, size_t stop, size_t next) const;
  bool starts_sentence(std::span<const Character> text, size_t at) const;
  void add_abbreviations(const std::vector<std::string>& words, Abbreviation kind);
  bool is_terminator(char32_t code) const {
    return terminators_.contains(code) || wide_terminators_.contains(code);
  }

  CodePointSet terminators_;
  CodePointSet wide_terminators_;
  CodePointSet closers_;
  CodePointSet stripped_;
  std::unordered_map<std::string, Abbreviation> abbreviations_;
  std::unordered_set<std::string> starters_;
  bool initials_;
  bool list_numbers_;
  bool lower_case_continues_;
  Newlines newlines_;
};

}  // namespace tessera
