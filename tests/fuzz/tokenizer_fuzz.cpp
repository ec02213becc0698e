// libFuzzer target: hostile texts, vocabularies and rules through the text pipeline. The input is
// split at its first two NULs into rules (JSON), a vocabulary blob and a text; with fewer NULs all
// of it is text.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "kernels/error.h"
#include "models/text/text.h"

namespace {

using namespace tessera;

void check(bool ok) {
  if (!ok) std::abort();
}

void check_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  const TextRules& rules = tokenizer.rules();
  const Document document = tokenizer.tokenize(text);
  const auto within = [](size_t count, int64_t limit) {
    return limit == 0 || count <= static_cast<size_t>(limit);
  };
  check(within(document.sentences.size(), rules.max_sentences));
  size_t reached = 0;
  for (const Sentence& sentence : document.sentences) {
    check(!sentence.words.empty() && within(sentence.words.size(), rules.max_words));
    check(reached <= sentence.span.begin && sentence.span.end <= text.size());
    reached = sentence.span.begin;
    for (const Word& word : sentence.words) {
      check(!word.text.empty() && word.id >= Vocabulary::kUnknownId);
      check(rules.max_features == 0 || word.id < rules.max_features);
      check(reached <= word.span.begin && word.span.begin < word.span.end);
      reached = word.span.end;
    }
    check(reached <= sentence.span.end);
    reached = sentence.span.end;
  }
}

TextRules rules_of(std::string_view bytes) {
  try {
    return text_rules_from_json(nlohmann::json::parse(bytes));
  } catch (const nlohmann::json::exception&) {
  } catch (const Error&) {
  }
  return {};
}

Vocabulary vocabulary_of(std::string_view blob) {
  try {
    const Vocabulary vocabulary = Vocabulary::from_blob(blob);
    check(Vocabulary::from_blob(vocabulary.to_blob()).size() == vocabulary.size());
    return vocabulary;
  } catch (const Error&) {
    return Vocabulary::from_blob("the\nand\n");
  }
}

const Tokenizer& default_tokenizer() {
  static const Tokenizer tokenizer({}, Vocabulary::from_blob("the\nand\n"));
  return tokenizer;
}

const Tokenizer& plain_tokenizer() {
  static const Tokenizer tokenizer = [] {
    TextRules rules;
    rules.splitter = SplitterRules::plain();
    rules.max_sentences = 3;
    rules.max_words = 5;
    rules.unknown_words = UnknownWords::kDrop;
    return Tokenizer(rules, Vocabulary::from_blob("a\ni\n"));
  }();
  return tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  std::string_view text(reinterpret_cast<const char*>(bytes), count);
  std::string_view rules_part;
  std::string_view vocabulary_part;
  const size_t first = text.find('\0');
  const size_t second = first == text.npos ? text.npos : text.find('\0', first + 1);
  const bool has_rules = second != text.npos;
  if (has_rules) {
    rules_part = text.substr(0, first);
    vocabulary_part = text.substr(first + 1, second - first - 1);
    text = text.substr(second + 1);
  }

  check_tokenizer(default_tokenizer(), text);
  check_tokenizer(plain_tokenizer(), text);
  if (!has_rules) return 0;

  const TextRules given = rules_of(rules_part);
  check(text_rules_from_json(to_json(given)) == given);
  check_tokenizer(Tokenizer(given, vocabulary_of(vocabulary_part)), text);
  VocabularyBuilder builder(given);
  builder.add(text);
  try {
    builder.build();
  } catch (const Error&) {  // a text without words
  }
  return 0;
}
