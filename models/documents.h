// Collections of documents, read record by record: plain text, TSV and JSON lines, each also
// compressed with gzip.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace tessera {

class TextStream;

enum class DocumentFormat {
  kText,   // the whole file is one document
  kTsv,    // one document per line
  kJsonl,  // one JSON object per line
};

// By the name: .tsv and .jsonl or .ndjson, each with or without .gz; anything else is plain text.
DocumentFormat document_format_of(const std::string& path);

struct DocumentOptions {
  DocumentFormat format = DocumentFormat::kText;

  // TSV columns count from 0. Without a text column a line is `label<TAB>text`, and the text runs
  // to the end of the line; with one, columns end at tabs and there is a label only if asked for.
  std::optional<size_t> text_column = std::nullopt;
  std::optional<size_t> label_column = std::nullopt;
  bool skip_header = false;  // TSV: the first line names the columns

  std::string text_field = "text";    // JSON lines: a string
  std::string label_field = "label";  // JSON lines: a string, number or boolean; may be absent
};

struct DocumentRecord {
  size_t line = 0;  // where it starts, from 1
  std::string text;
  std::optional<std::string> label = std::nullopt;
  std::string error;  // not empty: the record is bad and the rest is void; names file and line
};

class DocumentReader {
 public:
  static constexpr size_t kMaxRecordBytes = size_t{256} << 20;

  // Opens `path`, "-" being the standard input. Throws Error if that fails, or for options that
  // contradict one another.
  DocumentReader(const std::string& path, DocumentOptions options);
  ~DocumentReader();
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;

  // The next record, or nothing at the end. A bad record carries its error and does not end the
  // stream; blank lines are passed over. Throws Error if the file itself cannot be read further
  // (damaged gzip data, I/O), after which there is nothing more.
  std::optional<DocumentRecord> next();

 private:
  std::optional<DocumentRecord> next_line_record();
  void parse_tsv(std::string&& line, DocumentRecord& record) const;
  void parse_json(const std::string& line, DocumentRecord& record) const;

  std::string path_;
  DocumentOptions options_;
  std::unique_ptr<TextStream> stream_;
  size_t line_ = 0;
  bool at_end_ = false;
};

}  // namespace tessera
