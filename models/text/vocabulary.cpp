// Words and their ids: read from a blob, or counted in texts.
#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "models/text/text.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

// Why `word` cannot stand on a line of a blob; empty if it can.
std::string fault_of(std::string_view word) {
  if (word.empty()) return "is empty";
  if (word.size() > Vocabulary::kMaxWordBytes) {
    return fmt::format("has {} bytes; a word has at most {}", word.size(),
                       Vocabulary::kMaxWordBytes);
  }
  if (word.find('\0') != std::string_view::npos) return "holds a NUL";
  if (word.find('\n') != std::string_view::npos) return "holds a line break";
  for (size_t at = 0; at < word.size();) {
    const CodePoint point = decode_one(word, at);
    if (!point.valid) return fmt::format("is not UTF-8 at its byte {}", at);
    at += point.bytes;
  }
  return {};
}

}  // namespace

Vocabulary Vocabulary::from_blob(std::string_view blob) {
  require(!blob.empty(), "vocabulary: expected newline-separated words, found none");
  require(blob.size() <= kMaxBytes, "vocabulary: {} bytes; expected at most {}", blob.size(),
          kMaxBytes);
  auto storage = std::make_shared<Storage>();
  storage->blob = blob;
  if (!blob.ends_with('\n')) storage->blob += '\n';

  const std::string_view lines = storage->blob;
  size_t carriage_returns = 0;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = lines.find('\n', begin);
    const std::string_view word = lines.substr(begin, end - begin);
    const size_t line = storage->words.size() + 1;
    const std::string fault = fault_of(word);
    require(fault.empty(), "vocabulary: the word on line {} {}; each line holds one word", line,
            fault);
    const auto id = static_cast<int32_t>(line - 1) + kFirstWordId;
    const auto [found, is_new] = storage->ids.emplace(word, id);
    require(is_new, "vocabulary: line {} repeats the word '{}' of line {}; each word has one id",
            line, word, found->second - kFirstWordId + 1);
    storage->words.push_back(word);
    if (word.ends_with('\r')) ++carriage_returns;
    begin = end + 1;
  }
  // A stray carriage return may be a word's last character; on every line it is a line ending that
  // would make each word unknown without a sound.
  require(carriage_returns < storage->words.size(),
          "vocabulary: every line ends in a carriage return; save it with LF line endings");
  return Vocabulary(std::move(storage));
}

const std::string& Vocabulary::to_blob() const {
  return storage_->blob;
}

int32_t Vocabulary::find(std::string_view word) const {
  const auto found = storage_->ids.find(word);
  return found == storage_->ids.end() ? kUnknownId : found->second;
}

std::string_view Vocabulary::word(int32_t id) const {
  require(id >= kFirstWordId && id < size(), "vocabulary: no word has the id {}; expected {} to {}",
          id, kFirstWordId, size() - 1);
  return storage_->words[static_cast<size_t>(id - kFirstWordId)];
}

int32_t Vocabulary::size() const {
  return static_cast<int32_t>(storage_->words.size()) + kFirstWordId;
}

void VocabularyBuilder::add(std::string_view text) {
  class Counter : public TextSplitter::Visitor {
   public:
    explicit Counter(VocabularyBuilder& builder) : builder_(builder) {}

    void sentence(Span) override {}
    void word(std::string&& text, Span) override { builder_.add_word(std::move(text), 1); }

   private:
    VocabularyBuilder& builder_;
  };
  Counter counter(*this);
  splitter_.walk(text, counter);
}

void VocabularyBuilder::add_word(std::string word, int64_t occurrences) {
  const size_t seen = counts_.size();
  const auto [entry, is_new] = counts_.try_emplace(std::move(word), Count{0, seen});
  entry->second.occurrences += occurrences;
}

Vocabulary VocabularyBuilder::build(int64_t min_count) const {
  std::vector<const std::pair<const std::string, Count>*> ranked;
  for (const auto& entry : counts_) {
    if (entry.second.occurrences >= min_count && fault_of(entry.first).empty())
      ranked.push_back(&entry);
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto* a, const auto* b) {
    if (a->second.occurrences != b->second.occurrences) {
      return a->second.occurrences > b->second.occurrences;
    }
    return a->second.first_seen < b->second.first_seen;
  });
  if (const int64_t limit = splitter_.rules().max_features; limit > 0) {
    ranked.resize(std::min(ranked.size(), static_cast<size_t>(limit - Vocabulary::kFirstWordId)));
  }
  require(!ranked.empty(),
          "vocabulary: the texts hold no word that occurs {} times; give texts with words",
          min_count);
  std::string blob;
  for (const auto* entry : ranked) (blob += entry->first) += '\n';
  return Vocabulary::from_blob(blob);
}

Vocabulary fit_vocabulary(std::span<const std::string> texts, const TextRules& rules) {
  VocabularyBuilder builder(rules);
  for (const std::string& text : texts) builder.add(text);
  return builder.build();
}

}  // namespace tessera
