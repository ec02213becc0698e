#include "models/documents.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "kernels/error.h"
#include "models/text_stream.h"

namespace tessera {
namespace {

using nlohmann::json;

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

DocumentFormat document_format_of(const std::string& path) {
  std::string_view name = path;
  if (name.ends_with(".gz")) name.remove_suffix(3);
  if (name.ends_with(".tsv")) return DocumentFormat::kTsv;
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return DocumentFormat::kJsonl;
  return DocumentFormat::kText;
}

DocumentReader::DocumentReader(const std::string& path, DocumentOptions options)
    : options_(std::move(options)), stream_(std::make_unique<TextStream>(path)) {
  path_ = stream_->name();
  require(options_.text_column.has_value() || !options_.label_column.has_value(),
          "{}: a label column is chosen but no text column; choose both", path_);
  require(!options_.text_column.has_value() || options_.text_column != options_.label_column,
          "{}: column {} is chosen for the text and the label; choose two columns", path_,
          options_.text_column.value_or(0));
}

DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;

std::optional<DocumentRecord> DocumentReader::next() {
  if (at_end_) return std::nullopt;
  at_end_ = true;  // also if the stream throws
  std::optional<DocumentRecord> record;
  if (options_.format == DocumentFormat::kText) {
    record.emplace();
    record->line = 1;
    stream_->read_all(record->text, kMaxRecordBytes + 1);
    if (record->text.size() > kMaxRecordBytes) {
      record->error =
          fmt::format("{}: the document has more than {} bytes; split it", path_, kMaxRecordBytes);
    }
    return record;
  }
  record = next_line_record();
  at_end_ = !record.has_value();
  return record;
}

std::optional<DocumentRecord> DocumentReader::next_line_record() {
  std::string line;
  while (stream_->read_line(line, kMaxRecordBytes + 1)) {
    ++line_;
    const bool is_header =
        line_ == 1 && options_.skip_header && options_.format == DocumentFormat::kTsv;
    if (is_header || is_blank(line)) continue;
    if (line.ends_with('\r')) line.pop_back();
    DocumentRecord record;
    record.line = line_;
    try {
      require(line.size() <= kMaxRecordBytes, "more than {} bytes; split it", kMaxRecordBytes);
      if (options_.format == DocumentFormat::kTsv) {
        parse_tsv(std::move(line), record);
      } else {
        parse_json(line, record);
      }
    } catch (const Error& error) {
      record.error = fmt::format("{}, line {}: {}", path_, line_, error.what());
    }
    return record;
  }
  return std::nullopt;
}

void DocumentReader::parse_tsv(std::string&& line, DocumentRecord& record) const {
  if (!options_.text_column) {
    const size_t tab = line.find('\t');
    require(tab != std::string::npos,
            "expected label<TAB>text, found no tab; for texts without labels choose text column 0");
    record.label = line.substr(0, tab);
    record.text = line.substr(tab + 1);
    return;
  }
  const auto column = [&](size_t index) {
    size_t begin = 0;
    for (size_t i = 0; i < index; ++i) {
      const size_t tab = line.find('\t', begin);
      require(tab != std::string::npos, "expected a column {} (from 0), found {} columns", index,
              i + 1);
      begin = tab + 1;
    }
    return line.substr(begin, line.find('\t', begin) - begin);
  };
  record.text = column(*options_.text_column);
  if (options_.label_column) record.label = column(*options_.label_column);
}

void DocumentReader::parse_json(const std::string& line, DocumentRecord& record) const {
  json object;
  try {
    object = json::parse(line);
  } catch (const json::exception& exception) {
    fail("expected one JSON object: {}", exception.what());
  }
  require(object.is_object(), "expected a JSON object, found a JSON {}", object.type_name());
  const auto text = object.find(options_.text_field);
  require(text != object.end(), "the object has no field \"{}\"; choose the text field",
          options_.text_field);
  require(text->is_string(), "expected a string in the field \"{}\", found a JSON {}",
          options_.text_field, text->type_name());
  record.text = text->get<std::string>();
  const auto label = object.find(options_.label_field);
  if (label == object.end() || label->is_null()) return;
  require(!label->is_structured(),
          "expected a string, number or boolean in the field \"{}\", found a JSON {}",
          options_.label_field, label->type_name());
  record.label = label->is_string() ? label->get<std::string>() : label->dump();
}

}  // namespace tessera
