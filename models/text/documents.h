// Collections of documents, read record by record: plain text, TSV, CSV, JSON lines and arrays, in
// any encoding and compression that models/text/text_stream.h reads.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tessera {

struct SeparatedRecord;

enum class DocumentFormat {
  kAuto,   // by the name, and where it says nothing by the content
  kText,   // the whole file is one document
  kLines,  // one document per line
  kTsv,    // one document per record of columns, between them a tab
  kCsv,    // the same with a comma
  kJsonl,  // one JSON object (or string, which is a text) per line
  kJson,   // an array of them, or one after another
};

// By the ending, in whatever case: .txt and .text, .tsv and .tab, .csv, .json, .jsonl and .ndjson,
// each also with .gz, .bz2, .xz or .zst behind it. Nothing for any other name.
std::optional<DocumentFormat> document_format_of(const std::string& path);

// Whether it does so: which files of a folder are documents.
bool is_document_name(const std::filesystem::path& path);

struct DocumentOptions {
  DocumentFormat format = DocumentFormat::kAuto;

  // Columns count from 0, and go before the defaults of the names below; both at once are an error.
  // With a text column there is a label only if asked for.
  std::optional<size_t> text_column = std::nullopt;
  std::optional<size_t> label_column = std::nullopt;
  bool skip_header = false;  // TSV, CSV: the first line is no document

  // JSON: a string, and a string, number or boolean that may be absent. CSV, TSV: columns that the
  // first line names, whatever their case. Nothing stands for "text" and "label". A name that is
  // given must be there. Without one, the first line is taken for names if it has
  //   "text", of a CSV;
  //   "text" and "label", of a TSV;
  //   "text" alone, of a TSV, if there is no second column, if a number of the row stands first
  //   ("id" or nothing), or if there are three or more columns and each is a single word.
  // So the document "text" of a class, and a document of the class "text", stay what they are.
  // Where it has no names a TSV is `label<TAB>text`, and the text runs to the end of the line; a
  // CSV is `label,text`.
  std::optional<std::string> text_field = std::nullopt;
  std::optional<std::string> label_field = std::nullopt;
};

struct DocumentRecord {
  size_t line = 0;    // where it starts, from 1
  size_t number = 0;  // what tells it from the others: the line, or its place among JSON values
  std::string text;
  std::optional<std::string> label = std::nullopt;
  std::string error;  // not empty: the record is bad and the rest is void; names file and line
};

class DocumentReader {
 public:
  static constexpr size_t kMaxRecordBytes = size_t{256} << 20;

  // Opens `path`, "-" being the standard input. Throws Error if that fails, if the content is no
  // text, or for options that contradict one another.
  DocumentReader(const std::string& path, DocumentOptions options);
  ~DocumentReader();
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;

  DocumentFormat format() const { return options_.format; }  // never kAuto

  // The next record, or nothing at the end. A bad record carries its error and does not end the
  // stream; blank lines are passed over. Throws Error if the file itself cannot be read further
  // (damaged data, I/O, an array without an end), after which there is nothing more.
  std::optional<DocumentRecord> next();

  // What is worth knowing of the records so far: a first line that looks like a header, bytes that
  // are not UTF-8.
  std::vector<std::string> notes() const;

 private:
  struct Source;

  bool fetch(SeparatedRecord& raw);
  bool take_header(const SeparatedRecord& first);
  void take_names(const std::vector<std::string>& names);
  void parse(SeparatedRecord&& raw, DocumentRecord& record) const;
  void take_columns(std::vector<std::string>&& columns, DocumentRecord& record) const;
  void take_json(const std::string& value, DocumentRecord& record) const;
  void check(const DocumentRecord& record);

  std::string path_;
  DocumentOptions options_;
  std::unique_ptr<Source> source_;
  size_t line_ = 0;  // lines read, where a record is a line; else JSON values
  bool has_begun_ = false, at_end_ = false;
  bool has_label_ = false;  // some record so far
  std::vector<std::string> notes_;
  size_t invalid_documents_ = 0, invalid_sequences_ = 0, first_invalid_ = 0;
};

}  // namespace tessera
