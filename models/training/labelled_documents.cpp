#include "models/training/labelled_documents.h"

#include <limits>
#include <optional>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

constexpr std::size_t kRecordsPerRound = 512;  // read one after another, then split in parallel

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode_one(text, at);
    if (!point.valid) return false;
    at += point.bytes;
  }
  return true;
}

// A document's words as the splitter gave them.
struct SplitText : TextSplitter::Visitor {
  void sentence(Span) override { sentence_ends.push_back(word_ends.size()); }
  void word(std::string&& text, Span) override {
    letters += text;
    word_ends.push_back(letters.size());
    sentence_ends.back() = word_ends.size();
  }

  std::string letters;                     // of all words, without anything between
  std::vector<std::size_t> word_ends;      // in letters
  std::vector<std::size_t> sentence_ends;  // in word_ends
};

}  // namespace

std::int32_t Interner::number(std::string_view text) {
  const auto found = numbers_.find(text);
  if (found != numbers_.end()) return found->second;
  const auto next = static_cast<std::int32_t>(texts_.size());
  require(next < std::numeric_limits<std::int32_t>::max(),
          "the data has more than 2^31 different words; give fewer documents");
  const auto entry = numbers_.emplace(std::string(text), next).first;
  texts_.push_back(entry->first);
  return next;
}

TextCorpus read_labelled_documents(const std::string& path, const DocumentOptions& documents,
                                   const TextSplitter& splitter, int threads, Reading& reading,
                                   DataReport& report) {
  TextCorpus corpus;
  std::vector<DocumentRecord> records;
  std::vector<SplitText> texts;
  const auto take_round = [&] {
    texts.assign(records.size(), {});
    parallel_for(threads, static_cast<std::int64_t>(records.size()), [&](std::int64_t i) {
      DocumentRecord& record = records[static_cast<std::size_t>(i)];
      SplitText& text = texts[static_cast<std::size_t>(i)];
      splitter.walk(record.text, text);
    });
    for (std::size_t i = 0; i < records.size(); ++i) {
      const SplitText& text = texts[i];
      std::size_t word = 0, begin = 0;
      for (const std::size_t end : text.sentence_ends) {
        for (; word < end; ++word) {
          const std::size_t stop = text.word_ends[word];
          corpus.add_word(
              reading.words.number(std::string_view(text.letters).substr(begin, stop - begin)));
          begin = stop;
        }
        corpus.end_sentence();
      }
      if (text.word_ends.empty()) {
        report.problem(path, records[i].line, "the document has no words; remove the line");
        continue;
      }
      corpus.end_document(reading.labels.number(*records[i].label), records[i].line);
    }
    records.clear();
  };

  try {
    DocumentReader reader(path, documents);
    require(reader.format() != DocumentFormat::kText,
            "expected labelled documents, .tsv (label<TAB>text), .csv, .json or .jsonl, also "
            "compressed; rename or convert the file, or say --format");
    const std::string prefix = path + ", line ";
    while (std::optional<DocumentRecord> record = reader.next()) {
      if (!record->error.empty()) {
        // The reader names file and line as the report does: said once is enough.
        const std::string place = fmt::format("{}{}: ", prefix, record->line);
        report.problem(
            path, record->line,
            record->error.starts_with(place) ? record->error.substr(place.size()) : record->error);
      } else if (!record->label.has_value() || record->label->empty()) {
        report.problem(path, record->line, "the document has no label; add it or remove the line");
      } else if (!is_utf8(*record->label)) {
        report.problem(path, record->line, "the label is not UTF-8; correct it or remove the line");
      } else {
        records.push_back(std::move(*record));
        if (records.size() == kRecordsPerRound) take_round();
      }
    }
    for (std::string& note : reader.notes()) report.note(std::move(note));
  } catch (const Error& error) {
    std::string_view text = error.what();
    if (text.starts_with(path + ": ") || text.starts_with(path + ", "))
      text.remove_prefix(path.size() + 2);
    report.problem(path, 0, std::string(text));
  }
  take_round();
  return corpus;
}

}  // namespace tessera
