// The rules' defaults, their checks and their JSON form.
#include <utility>

#include "engine/files/json_fields.h"
#include "models/text/text.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kMaxLimit = 1'000'000;  // sentences, words
constexpr int64_t kMaxIds = int64_t{1} << 30;
constexpr size_t kMaxListWords = 10'000;
constexpr size_t kMaxListWordBytes = 64;

constexpr JsonNames<Newlines, 3> kNewlinesNames{{{Newlines::kSpace, "space"},
                                                 {Newlines::kBlankLine, "blank_line"},
                                                 {Newlines::kEvery, "every"}}};
constexpr JsonNames<HtmlBreaks, 3> kHtmlBreaksNames{{{HtmlBreaks::kKeep, "keep"},
                                                     {HtmlBreaks::kSpace, "space"},
                                                     {HtmlBreaks::kNewline, "newline"}}};
constexpr JsonNames<WhiteSpace, 2> kWhiteSpaceNames{
    {{WhiteSpace::kSplits, "splits"}, {WhiteSpace::kKeras, "keras"}}};
constexpr JsonNames<UnknownWords, 2> kUnknownWordsNames{
    {{UnknownWords::kIndex, "index"}, {UnknownWords::kDrop, "drop"}}};

void require_limit(const char* key, int64_t value, int64_t most) {
  require(value >= 0 && value <= most, "text rules: {} is {}; expected 0 (no limit) to {}", key,
          value, most);
}

void require_words(const char* key, const std::vector<std::string>& words) {
  require(words.size() <= kMaxListWords, "text rules: {} has {} words; expected at most {}", key,
          words.size(), kMaxListWords);
  for (const std::string& word : words) {
    decode_strictly(word, key);
    require(!word.empty() && word.size() <= kMaxListWordBytes,
            "text rules: a word of {} has {} bytes; expected 1 to {}", key, word.size(),
            kMaxListWordBytes);
  }
}

}  // namespace

std::vector<std::string> SplitterRules::default_never() {
  return {"mr",  "mrs", "ms",   "dr",   "prof", "rev",    "fr",   "hon",  "gen",
          "col", "maj", "capt", "lt",   "cmdr", "cpl",    "sgt",  "pvt",  "adm",
          "gov", "sen", "rep",  "pres", "supt", "messrs", "mme",  "mlle", "mgr",
          "e.g", "i.e", "cf",   "viz",  "vs",   "approx", "feat", "dept"};
}

std::vector<std::string> SplitterRules::default_number() {
  return {"no", "nos", "p", "pp", "vol", "vols", "fig", "figs", "ch", "sec", "art", "eq", "ca"};
}

std::vector<std::string> SplitterRules::default_closing() {
  return {"st",  "mt",  "ft",   "jr",  "sr",  "inc", "ltd",  "co",  "corp", "bros", "al",   "etc",
          "esq", "ave", "blvd", "rd",  "a.m", "p.m", "ph.d", "m.d", "b.a",  "m.a",  "univ", "ed",
          "jan", "feb", "mar",  "apr", "jun", "jul", "aug",  "sep", "sept", "oct",  "nov",  "dec"};
}

std::vector<std::string> SplitterRules::default_starters() {
  return {"the",  "a",    "an",    "this",   "that",    "these", "those",    "it",      "he",
          "she",  "we",   "they",  "i",      "you",     "there", "here",     "but",     "and",
          "so",   "or",   "if",    "when",   "while",   "where", "in",       "on",      "at",
          "for",  "from", "after", "before", "as",      "with",  "although", "however", "then",
          "what", "why",  "who",   "how",    "his",     "her",   "my",       "our",     "their",
          "its",  "not",  "now",   "also",   "because", "some",  "many",     "most",    "all"};
}

SplitterRules SplitterRules::plain() {
  SplitterRules rules;
  rules.terminators = ".!?";
  rules.wide_terminators.clear();
  rules.closers.clear();
  rules.abbreviations.clear();
  rules.number_abbreviations.clear();
  rules.closing_abbreviations.clear();
  rules.sentence_starters.clear();
  rules.initials = false;
  rules.list_numbers = false;
  rules.lower_case_continues = false;
  rules.newlines = Newlines::kSpace;
  return rules;
}

void validate(const TextRules& rules) {
  const SplitterRules& splitter = rules.splitter;
  const std::pair<const char*, const std::string*> strings[] = {
      {"strip_characters", &rules.strip_characters},
      {"filters", &rules.filters},
      {"splitter.terminators", &splitter.terminators},
      {"splitter.wide_terminators", &splitter.wide_terminators},
      {"splitter.closers", &splitter.closers}};
  for (const auto& [key, text] : strings) decode_strictly(*text, key);
  require(decode_strictly(rules.split, "split").size() == 1,
          "text rules: split is \"{}\"; expected exactly one character, usually a space",
          rules.split);
  require_limit("max_sentences", rules.max_sentences, kMaxLimit);
  require_limit("max_words", rules.max_words, kMaxLimit);
  require_limit("max_features", rules.max_features, kMaxIds);
  require(rules.max_features == 0 || rules.max_features > Vocabulary::kFirstWordId,
          "text rules: max_features is {}, which leaves no id for a word; expected 0 (no limit) or "
          "at least {}",
          rules.max_features, Vocabulary::kFirstWordId + 1);
  require_words("splitter.abbreviations", splitter.abbreviations);
  require_words("splitter.number_abbreviations", splitter.number_abbreviations);
  require_words("splitter.closing_abbreviations", splitter.closing_abbreviations);
  require_words("splitter.sentence_starters", splitter.sentence_starters);
}

json to_json(const TextRules& rules) {
  validate(rules);
  const SplitterRules& splitter = rules.splitter;
  return {{"strip_characters", rules.strip_characters},
          {"html_breaks", json_name(rules.html_breaks, kHtmlBreaksNames)},
          {"lower_case", rules.lower_case},
          {"filters", rules.filters},
          {"split", rules.split},
          {"white_space", json_name(rules.white_space, kWhiteSpaceNames)},
          {"unknown_words", json_name(rules.unknown_words, kUnknownWordsNames)},
          {"max_sentences", rules.max_sentences},
          {"max_words", rules.max_words},
          {"max_features", rules.max_features},
          {"splitter",
           {{"terminators", splitter.terminators},
            {"wide_terminators", splitter.wide_terminators},
            {"closers", splitter.closers},
            {"abbreviations", splitter.abbreviations},
            {"number_abbreviations", splitter.number_abbreviations},
            {"closing_abbreviations", splitter.closing_abbreviations},
            {"sentence_starters", splitter.sentence_starters},
            {"initials", splitter.initials},
            {"list_numbers", splitter.list_numbers},
            {"lower_case_continues", splitter.lower_case_continues},
            {"newlines", json_name(splitter.newlines, kNewlinesNames)}}}};
}

TextRules text_rules_from_json(const json& object) {
  TextRules rules;
  JsonFields fields(object, "text rules");
  fields.read("strip_characters", rules.strip_characters);
  fields.read("html_breaks", rules.html_breaks, kHtmlBreaksNames);
  fields.read("lower_case", rules.lower_case);
  fields.read("filters", rules.filters);
  fields.read("split", rules.split);
  fields.read("white_space", rules.white_space, kWhiteSpaceNames);
  // Older files have this key, which training wrote without being asked and which glued words
  // together where it was false. It no longer does: what is to be read as Keras does says so.
  bool splits = true;
  fields.read("white_space_splits", splits);
  fields.read("unknown_words", rules.unknown_words, kUnknownWordsNames);
  fields.read("max_sentences", rules.max_sentences);
  fields.read("max_words", rules.max_words);
  fields.read("max_features", rules.max_features);
  if (const json* value = fields.take("splitter")) {
    SplitterRules& splitter = rules.splitter;
    JsonFields inner(*value, "text rules.splitter");
    inner.read("terminators", splitter.terminators);
    inner.read("wide_terminators", splitter.wide_terminators);
    inner.read("closers", splitter.closers);
    inner.read("abbreviations", splitter.abbreviations);
    inner.read("number_abbreviations", splitter.number_abbreviations);
    inner.read("closing_abbreviations", splitter.closing_abbreviations);
    inner.read("sentence_starters", splitter.sentence_starters);
    inner.read("initials", splitter.initials);
    inner.read("list_numbers", splitter.list_numbers);
    inner.read("lower_case_continues", splitter.lower_case_continues);
    inner.read("newlines", splitter.newlines, kNewlinesNames);
    inner.refuse_unknown();
  }
  fields.refuse_unknown();
  validate(rules);
  return rules;
}

}  // namespace tessera
