// From a document's bytes to word ids, by rules that travel inside the model file.
//
// A text is decoded (invalid UTF-8 becomes U+FFFD), split into sentences, and each sentence into
// words with the semantics of Keras' Tokenizer. Every sentence and word keeps the bytes of the
// ORIGINAL text that it came from, whatever was stripped or lower-cased on the way. All of it is
// linear in the text's length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera {

// What a line break says about sentences.
enum class Newlines {
  kSpace,      // "space": nothing more than a space does
  kBlankLine,  // "blank_line": an empty line ends a sentence
  kEvery,      // "every": each one ends a sentence
};

// What `<br>`, `<br/>`, `<br />` in a text act as.
enum class HtmlBreaks {
  kKeep,     // "keep": plain characters, so the word `br`
  kSpace,    // "space"
  kNewline,  // "newline"
};

enum class UnknownWords {
  kIndex,  // "index": they keep their place, as id 1
  kDrop,   // "drop": they are left out, and those after them move up
};

// Where sentences end: after a run of terminators and closers that white space follows, unless
// one of the exceptions below says that the sentence goes on. Words compare in lower case.
struct SplitterRules {
  std::string terminators = ".!?\u2026\u203D\u0964";    // . ! ? ellipsis interrobang danda
  std::string wide_terminators = "\u3002\uFF01\uFF1F";  // these need no white space after them
  std::string closers = "\"')]}\u00BB\u201D\u2019";     // go with the sentence that they follow
  std::vector<std::string> abbreviations = default_never();          // never end a sentence: "Mr."
  std::vector<std::string> number_abbreviations = default_number();  // nor before a digit: "No."
  std::vector<std::string> closing_abbreviations = default_closing();  // only before a starter
  std::vector<std::string> sentence_starters = default_starters();     // if capitalised: "The"
  bool initials = true;              // "J. R. Smith", "the U.S. Army": as the closing abbreviations
  bool list_numbers = true;          // "1. Milk": the number belongs to what follows
  bool lower_case_continues = true;  // a lower-case letter after "..." or after closers goes on
  Newlines newlines = Newlines::kBlankLine;

  // Every terminator before white space ends a sentence, without exception:
  // the regular expression (?<=[.!?])\s+ of many a training script.
  static SplitterRules plain();

  bool operator==(const SplitterRules&) const = default;

 private:
  static std::vector<std::string> default_never();
  static std::vector<std::string> default_number();
  static std::vector<std::string> default_closing();
  static std::vector<std::string> default_starters();
};

// What splits words besides the filters.
enum class WhiteSpace {
  kSplits,  // "splits": all of Unicode's, as Python's str.split() does
  kKeras,   // "keras": the one character `split`, as Keras' text_to_word_sequence does, so that a
            // carriage return or a no-break space glues the words around it together
};

// The defaults are those of the Keras HAN tutorial, except that unknown words are kept as id 1,
// HTML line breaks are spaces, and every white space splits words. They are part of the file
// format: a key that a model file lacks means the default, so a default never changes.
struct TextRules {
  std::string strip_characters = "\\'\"";  // removed before anything else: don't -> dont
  HtmlBreaks html_breaks = HtmlBreaks::kSpace;
  bool lower_case = true;  // Unicode, as Python's str.lower of each word
  std::string filters = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n";  // each acts as `split`
  std::string split = " ";                                        // one character
  WhiteSpace white_space = WhiteSpace::kSplits;
  UnknownWords unknown_words = UnknownWords::kIndex;
  int64_t max_sentences = 0;  // 0: no limit
  int64_t max_words = 0;      // per sentence; 0: no limit
  int64_t max_features = 0;   // ids at or above it count as unknown; 0: no limit
  SplitterRules splitter;

  bool operator==(const TextRules&) const = default;
};

nlohmann::json to_json(const TextRules& rules);

// Throws Error for an unknown key, a value of the wrong type, or rules that no tokenizer accepts.
TextRules text_rules_from_json(const nlohmann::json& object);

// Throws Error unless every string is UTF-8, `split` is one character, the limits are sane.
void validate(const TextRules& rules);

// The words that a model knows. Immutable; copies share their storage.
class Vocabulary {
 public:
  static constexpr int32_t kPaddingId = 0;
  static constexpr int32_t kUnknownId = 1;
  static constexpr int32_t kFirstWordId = 2;
  static constexpr size_t kMaxBytes = size_t{256} << 20;  // of a blob
  static constexpr size_t kMaxWordBytes = 1024;

  // Newline-separated UTF-8 words; line i (from 0) has id i + 2. Throws Error naming the line for
  // an empty, doubled or overlong word, a NUL, or invalid UTF-8, and for a blob without words.
  static Vocabulary from_blob(std::string_view blob);

  // The words as from_blob reads them, each line ended by a newline.
  const std::string& to_blob() const;

  // kUnknownId where the word is absent.
  int32_t find(std::string_view word) const;
  // Throws Error unless kFirstWordId <= id < size().
  std::string_view word(int32_t id) const;
  // The number of ids, padding and unknown included: the rows of the embedding.
  int32_t size() const;

 private:
  struct Storage {
    std::string blob;
    std::vector<std::string_view> words;  // into blob
    std::unordered_map<std::string_view, int32_t> ids;
  };
  std::shared_ptr<const Storage> storage_;

  explicit Vocabulary(std::shared_ptr<const Storage> storage) : storage_(std::move(storage)) {}
};

struct Span {
  size_t begin = 0;  // bytes of the original text
  size_t end = 0;

  bool operator==(const Span&) const = default;
};

struct Word {
  std::string text;  // stripped and lower-cased
  int32_t id;
  Span span;
};

struct Sentence {
  Span span;  // without white space around it; quotes and stops belong to it
  std::vector<Word> words;
};

struct Document {
  std::vector<Sentence> sentences;  // each with at least one word; none for a text without words
  size_t sentences_dropped = 0;     // with words, beyond max_sentences
  size_t words_dropped = 0;         // beyond max_words, or in a dropped sentence
  size_t unknown_words = 0;         // of the whole text, kept or not
  size_t invalid_sequences = 0;     // that were not UTF-8 and became U+FFFD each
};

// Splits texts by `rules`, without a vocabulary: what counting and tokenizing have in common.
class TextSplitter {
 public:
  // Throws Error where validate does.
  explicit TextSplitter(TextRules rules);
  ~TextSplitter();
  TextSplitter(TextSplitter&&) noexcept;
  TextSplitter& operator=(TextSplitter&&) noexcept;

  const TextRules& rules() const;

  // What the walk over a text reports, in the order of the text.
  class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual void sentence(Span span) = 0;
    virtual void word(std::string&& text, Span span) = 0;  // of the sentence reported last
  };

  // Reports every sentence, with or without words. Returns the number of sequences that were not
  // UTF-8. Throws Error for a text of 4 GiB or more. Safe to call from several threads.
  size_t walk(std::string_view text, Visitor& visitor) const;

 private:
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

class Tokenizer {
 public:
  // Throws Error where validate does.
  Tokenizer(TextRules rules, Vocabulary vocabulary);

  const TextRules& rules() const { return splitter_.rules(); }
  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Throws Error for a text of 4 GiB or more. Safe to call from several threads.
  Document tokenize(std::string_view text) const;

 private:
  TextSplitter splitter_;
  Vocabulary vocabulary_;
};

// Counts words to build a vocabulary, as Keras' fit_on_texts.
class VocabularyBuilder {
 public:
  // Throws Error where validate does.
  explicit VocabularyBuilder(const TextRules& rules) : splitter_(rules) {}

  void add(std::string_view text);
  // One word that is split off already, as if a text held it `occurrences` times.
  void add_word(std::string word, int64_t occurrences);

  // The words by falling frequency, ties by first appearance, as many as max_features leaves room
  // for; those that occur less often than `min_count` and those that no blob can hold (a newline
  // or NUL inside, overlong) are left out. Throws Error if there is no word.
  Vocabulary build(int64_t min_count = 1) const;

 private:
  struct Count {
    int64_t occurrences = 0;
    size_t first_seen = 0;
  };
  TextSplitter splitter_;
  std::unordered_map<std::string, Count> counts_;
};

// A vocabulary from texts that are in memory. Throws Error as VocabularyBuilder does.
Vocabulary fit_vocabulary(std::span<const std::string> texts, const TextRules& rules);

}  // namespace tessera
