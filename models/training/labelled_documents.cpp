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

namespace {

// Takes what `next` gives, up to nothing, into a corpus.
class CorpusMaker {
 public:
  CorpusMaker(std::string path, const TextSplitter& splitter, int threads, Reading& reading,
              DataReport& report)
      : path_(std::move(path)),
        splitter_(splitter),
        threads_(threads),
        reading_(reading),
        report_(report) {}

  void take(DocumentRecord&& record) {
    if (!record.error.empty()) {
      // The reader names file and line as the report does: said once is enough.
      const std::string place = fmt::format("{}, line {}: ", path_, record.line);
      report_.problem(
          path_, record.line,
          record.error.starts_with(place) ? record.error.substr(place.size()) : record.error);
    } else if (!record.label.has_value() || record.label->empty()) {
      report_.problem(path_, record.line, "the document has no label; add it or remove the line");
    } else if (!is_utf8(*record.label)) {
      report_.problem(path_, record.line, "the label is not UTF-8; correct it or remove the line");
    } else {
      records_.push_back(std::move(record));
      if (records_.size() == kRecordsPerRound) take_round();
    }
  }

  TextCorpus finish() {
    take_round();
    return std::move(corpus_);
  }

 private:
  void take_round() {
    std::vector<SplitText> texts(records_.size());
    parallel_for(threads_, static_cast<std::int64_t>(records_.size()), [&](std::int64_t i) {
      splitter_.walk(records_[static_cast<std::size_t>(i)].text,
                     texts[static_cast<std::size_t>(i)]);
    });
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const SplitText& text = texts[i];
      std::size_t word = 0, begin = 0;
      for (const std::size_t end : text.sentence_ends) {
        for (; word < end; ++word) {
          const std::size_t stop = text.word_ends[word];
          corpus_.add_word(
              reading_.words.number(std::string_view(text.letters).substr(begin, stop - begin)));
          begin = stop;
        }
        corpus_.end_sentence();
      }
      if (text.word_ends.empty()) {
        report_.problem(path_, records_[i].line, "the document has no words; remove the line");
        continue;
      }
      corpus_.end_document(reading_.labels.number(*records_[i].label), records_[i].line);
    }
    records_.clear();
  }

  std::string path_;
  const TextSplitter& splitter_;
  int threads_;
  Reading& reading_;
  DataReport& report_;
  TextCorpus corpus_;
  std::vector<DocumentRecord> records_;
};

}  // namespace

DocumentOptions reader_options(const DocumentFileOptions& files) {
  constexpr std::pair<const char*, DocumentFormat> kFormats[] = {
      {"auto", DocumentFormat::kAuto},   {"text", DocumentFormat::kText},
      {"lines", DocumentFormat::kLines}, {"tsv", DocumentFormat::kTsv},
      {"csv", DocumentFormat::kCsv},     {"jsonl", DocumentFormat::kJsonl},
      {"json", DocumentFormat::kJson}};
  for (const auto& [name, format] : kFormats) {
    if (files.format == name)
      return {.format = format,
              .text_column = files.text_column,
              .label_column = files.label_column,
              .skip_header = files.skip_header,
              .text_field = files.text_field,
              .label_field = files.label_field};
  }
  throw OptionError(fmt::format(
      "--format: expected auto, text, lines, tsv, csv, jsonl or json; found '{}'", files.format));
}

TextCorpus read_labelled_documents(std::span<const LabelledText> documents,
                                   const TextSplitter& splitter, int threads, Reading& reading,
                                   DataReport& report) {
  CorpusMaker maker(kDocumentsInMemory, splitter, threads, reading, report);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    maker.take({.line = i + 1,
                .number = i + 1,
                .text = std::string(documents[i].text),
                .label = std::string(documents[i].label),
                .error = {}});
  }
  return maker.finish();
}

TextCorpus read_labelled_documents(const std::string& path, const DocumentOptions& documents,
                                   const TextSplitter& splitter, int threads, Reading& reading,
                                   DataReport& report) {
  CorpusMaker maker(path, splitter, threads, reading, report);
  try {
    DocumentReader reader(path, documents);
    require(reader.format() != DocumentFormat::kText,
            "expected labelled documents, .tsv (label<TAB>text), .csv, .json or .jsonl, also "
            "compressed; rename or convert the file, or say --format");
    while (std::optional<DocumentRecord> record = reader.next()) maker.take(*std::move(record));
    for (std::string& note : reader.notes()) report.note(std::move(note));
  } catch (const Error& error) {
    std::string_view text = error.what();
    if (text.starts_with(path + ": ") || text.starts_with(path + ", "))
      text.remove_prefix(path.size() + 2);
    report.problem(path, 0, std::string(text));
  }
  return maker.finish();
}

}  // namespace tessera
