// Characters -> sentences -> words -> ids.
#include <algorithm>
#include <utility>

#include "models/text/sentence_splitter.h"
#include "models/text/text.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

// The number of characters of the HTML line break that starts at `at`, or 0.
size_t html_break_length(std::span<const Character> text, size_t at) {
  const auto code = [&](size_t index) { return index < text.size() ? text[index].code : U'\0'; };
  if (code(at) != '<' || lower_code(code(at + 1)) != 'b' || lower_code(code(at + 2)) != 'r') {
    return 0;
  }
  size_t end = at + 3;
  while (is_white_space(code(end))) ++end;
  if (code(end) == '/') ++end;
  return code(end) == '>' ? end + 1 - at : 0;
}

// Each HTML line break becomes one character that spans its bytes.
void replace_html_breaks(DecodedText& text, char32_t replacement) {
  const std::span<const Character> old(text.characters.data(), text.size());
  size_t kept = 0;
  for (size_t at = 0; at < old.size(); ++kept) {
    const size_t length = html_break_length(old, at);
    text.characters[kept] = {length > 0 ? replacement : old[at].code, old[at].begin};
    at += std::max<size_t>(length, 1);
  }
  text.characters[kept] = text.characters.back();
  text.characters.resize(kept + 1);
}

}  // namespace

struct TextSplitter::Compiled {
  explicit Compiled(TextRules text_rules)
      : rules(std::move(text_rules)),
        stripped(rules.strip_characters, "strip_characters"),
        filtered(rules.filters, "filters"),
        split(decode_strictly(rules.split, "split").front()),
        sentences(rules.splitter, stripped) {}

  bool separates(char32_t code) const {
    const char32_t lowered = rules.lower_case ? lower_code(code) : code;
    return lowered == split || filtered.contains(lowered) ||
           (rules.white_space == WhiteSpace::kSplits && is_white_space(code));
  }

  TextRules rules;
  CodePointSet stripped;
  CodePointSet filtered;
  char32_t split;
  SentenceSplitter sentences;
};

TextSplitter::TextSplitter(TextRules rules) {
  validate(rules);
  compiled_ = std::make_unique<Compiled>(std::move(rules));
}

TextSplitter::~TextSplitter() = default;
TextSplitter::TextSplitter(TextSplitter&&) noexcept = default;
TextSplitter& TextSplitter::operator=(TextSplitter&&) noexcept = default;

const TextRules& TextSplitter::rules() const {
  return compiled_->rules;
}

size_t TextSplitter::walk(std::string_view bytes, Visitor& visitor) const {
  const Compiled& compiled = *compiled_;
  DecodedText text = decode(bytes);
  if (compiled.rules.html_breaks != HtmlBreaks::kKeep) {
    replace_html_breaks(text, compiled.rules.html_breaks == HtmlBreaks::kSpace ? ' ' : '\n');
  }
  const std::vector<Character>& characters = text.characters;

  std::u32string word;
  Span span;
  const auto end_word = [&] {
    if (word.empty()) return;
    visitor.word(compiled.rules.lower_case ? lower_case(word) : to_utf8(word), span);
    word.clear();
  };
  for (const auto [begin, end] : compiled.sentences.split({characters.data(), text.size()})) {
    visitor.sentence({characters[begin].begin, characters[end].begin});
    for (size_t i = begin; i < end; ++i) {
      const char32_t code = characters[i].code;
      if (compiled.stripped.contains(code)) continue;
      if (compiled.separates(code)) {
        end_word();
        continue;
      }
      if (word.empty()) span.begin = characters[i].begin;
      span.end = characters[i + 1].begin;
      word.push_back(code);
    }
    end_word();
  }
  return text.invalid_sequences;
}

Tokenizer::Tokenizer(TextRules rules, Vocabulary vocabulary)
    : splitter_(std::move(rules)), vocabulary_(std::move(vocabulary)) {}

Document Tokenizer::tokenize(std::string_view text) const {
  class Collector : public TextSplitter::Visitor {
   public:
    Collector(const TextRules& rules, const Vocabulary& vocabulary)
        : rules_(rules), vocabulary_(vocabulary) {}

    void sentence(Span span) override {
      pending_ = span;
      place_ = Place::kUndecided;
    }

    void word(std::string&& text, Span span) override {
      int32_t id = vocabulary_.find(text);
      if (rules_.max_features > 0 && id >= rules_.max_features) id = Vocabulary::kUnknownId;
      if (id == Vocabulary::kUnknownId) {
        ++document.unknown_words;
        if (rules_.unknown_words == UnknownWords::kDrop) return;
      }
      if (place_ == Place::kUndecided) place_sentence();
      if (place_ == Place::kDropped ||
          is_full(document.sentences.back().words.size(), rules_.max_words)) {
        ++document.words_dropped;
        return;
      }
      document.sentences.back().words.push_back({std::move(text), id, span});
    }

    Document document;

   private:
    // A sentence takes a place only once it proves to have a word.
    enum class Place { kUndecided, kKept, kDropped };

    static bool is_full(size_t count, int64_t limit) {
      return limit > 0 && count >= static_cast<size_t>(limit);
    }

    void place_sentence() {
      if (is_full(document.sentences.size(), rules_.max_sentences)) {
        place_ = Place::kDropped;
        ++document.sentences_dropped;
      } else {
        place_ = Place::kKept;
        document.sentences.push_back({pending_, {}});
      }
    }

    const TextRules& rules_;
    const Vocabulary& vocabulary_;
    Span pending_;
    Place place_ = Place::kUndecided;
  };

  Collector collector(rules(), vocabulary_);
  const size_t invalid_sequences = splitter_.walk(text, collector);
  collector.document.invalid_sequences = invalid_sequences;
  return std::move(collector.document);
}

}  // namespace tessera
