#include "models/text/documents.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "engine/files/json_text.h"
#include "kernels/error.h"
#include "models/text/decompression.h"
#include "models/text/json_values.h"
#include "models/text/labels.h"
#include "models/text/separated_values.h"
#include "models/text/text_stream.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::pair<std::string_view, DocumentFormat> kEndings[] = {
    {".txt", DocumentFormat::kText},    {".text", DocumentFormat::kText},
    {".tsv", DocumentFormat::kTsv},     {".tab", DocumentFormat::kTsv},
    {".csv", DocumentFormat::kCsv},     {".json", DocumentFormat::kJson},
    {".jsonl", DocumentFormat::kJsonl}, {".ndjson", DocumentFormat::kJsonl}};

// A document with more invalid sequences than this share of its characters is in another encoding;
// fewer are strays, which the tokenizer takes for U+FFFD.
constexpr size_t kInvalidShare = 4;

constexpr std::string_view kSpaces = " \t\r\n";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(kSpaces) == std::string_view::npos;
}

// What of JSON a text is that starts with `beginning`: an array or objects over several lines, JSON
// lines, or none.
std::optional<DocumentFormat> json_format_of(std::string_view beginning) {
  const size_t first = std::min(beginning.find_first_not_of(kSpaces), beginning.size());
  beginning.remove_prefix(first);
  const size_t second = beginning.find_first_not_of(kSpaces, 1);
  if (second == std::string_view::npos) return std::nullopt;
  if (beginning[0] == '[' && std::string_view("{\"]").find(beginning[second]) != beginning.npos)
    return DocumentFormat::kJson;
  if (beginning[0] != '{' || (beginning[second] != '"' && beginning[second] != '}'))
    return std::nullopt;
  const std::string_view line = beginning.substr(0, beginning.find('\n'));
  return json::accept(line) ? DocumentFormat::kJsonl : DocumentFormat::kJson;
}

DocumentFormat format_of(const std::string& path, std::string_view beginning) {
  const std::optional<DocumentFormat> named = document_format_of(path);
  const std::optional<DocumentFormat> seen = json_format_of(beginning);
  if (!named) return seen.value_or(DocumentFormat::kText);
  if (*named == DocumentFormat::kJson) return seen.value_or(*named);
  if (*named == DocumentFormat::kJsonl && beginning.substr(0, 1) == "[")
    return seen.value_or(*named);
  return *named;
}

// The name of the format that a text may have whose name says otherwise or nothing: two lines or
// more, each a JSON object, or each with one tab behind a label. Null for any other text.
const char* collection_like(std::string_view beginning) {
  constexpr std::size_t kLongestLabel = 40;
  std::size_t lines = 0, objects = 0, labels = 0;
  // The last line may be cut, or be the end of the text.
  for (std::size_t end; (end = beginning.find('\n')) != beginning.npos;) {
    const std::string_view line = beginning.substr(0, end);
    beginning.remove_prefix(end + 1);
    if (is_blank(line)) continue;
    const std::size_t tab = line.find('\t');
    ++lines;
    labels +=
        tab > 0 && tab <= kLongestLabel && line.rfind('\t') == tab && !is_blank(line.substr(tab));
    objects += line[0] == '{' && json::accept(line);
  }
  if (lines < 2) return nullptr;
  return objects == lines ? "jsonl" : labels == lines ? "tsv" : nullptr;
}

// Of a text, counted as decode() does.
struct Utf8Count {
  size_t characters = 0;
  size_t invalid = 0;
};

Utf8Count count_utf8(std::string_view text) {
  Utf8Count count;
  for (size_t at = 0; at < text.size(); ++count.characters) {
    const CodePoint point = decode_one(text, at);
    count.invalid += point.valid ? 0 : 1;
    at += point.bytes;
  }
  return count;
}

constexpr const char* kTextField = "text";
constexpr const char* kLabelField = "label";

// Names of columns for a message. A file without names has documents there.
std::string quoted_list(const std::vector<std::string>& names) {
  constexpr size_t kShown = 20, kLongest = 40;
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kShown) break;
    size_t end = std::min(name.size(), kLongest);
    while (end > 0 && end < name.size() && (name[end] & 0xC0) == 0x80) --end;  // inside a letter
    shown.push_back(fmt::format("\"{}{}\"", name.substr(0, end), end < name.size() ? ".." : ""));
  }
  if (names.size() > kShown) shown.push_back(fmt::format("{} more", names.size() - kShown));
  return fmt::format("{}", fmt::join(shown, ", "));
}

// The column of that name: written so, else the first that differs in upper and lower case alone.
std::optional<size_t> column_of(const std::vector<std::string>& names, const std::string& name) {
  auto found = std::ranges::find(names, name);
  if (found == names.end()) found = std::ranges::find(names, folded_label(name), folded_label);
  if (found == names.end()) return std::nullopt;
  return static_cast<size_t>(found - names.begin());
}

// Whether a TSV's record that has the text's name and not the label's names columns: the rule in
// documents.h.
bool names_text_alone(const std::vector<std::string>& names) {
  return names.size() == 1 || is_row_name(names.front()) ||
         (names.size() > 2 && looks_like_header(names));
}

// Whether columns of these names can be a label and a text, in this order. A line of one column is
// of another kind than the records: a remark.
bool is_label_and_text(const std::vector<std::string>& names) {
  if (names.size() == 1) return true;
  return names.size() == 2 && !is_text_name(names[0]) && !is_row_name(names[0]) &&
         !is_label_name(names[1]);
}

std::string field_advice(const std::vector<std::string>& names) {
  const auto one = [&](bool (*is_such)(std::string_view)) {
    const auto found = std::ranges::find_if(names, is_such);
    return found == names.end() ? "NAME" : folded_label(*found);
  };
  return fmt::format("--text-field {} --label-field {}", one(is_text_name), one(is_label_name));
}

}  // namespace

std::optional<DocumentFormat> document_format_of(const std::string& path) {
  std::string name = without_compression_ending(std::filesystem::path(path).filename().string());
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  });
  for (const auto& [ending, format] : kEndings) {
    if (name.ends_with(ending)) return format;
  }
  return std::nullopt;
}

bool is_document_name(const std::filesystem::path& path) {
  return document_format_of(path.string()).has_value();
}

struct DocumentReader::Source {
  explicit Source(const std::string& path) : stream(path) {}

  TextStream stream;
  std::optional<SeparatedValues> columns;
  std::optional<JsonValues> values;
};

DocumentReader::DocumentReader(const std::string& path, DocumentOptions options)
    : options_(std::move(options)), source_(std::make_unique<Source>(path)) {
  path_ = source_->stream.name();
  require(options_.text_column.has_value() || !options_.label_column.has_value(),
          "{}: a label column is chosen but no text column; choose both", path_);
  require(!options_.text_column.has_value() || options_.text_column != options_.label_column,
          "{}: column {} is chosen for the text and the label; choose two columns", path_,
          options_.text_column.value_or(0));
  const std::string_view beginning = source_->stream.beginning();
  const DocumentFormat given = options_.format;
  if (given == DocumentFormat::kAuto) options_.format = format_of(path, beginning);
  const bool has_columns =
      options_.format == DocumentFormat::kTsv || options_.format == DocumentFormat::kCsv;
  require(!has_columns || !options_.text_column || !(options_.text_field || options_.label_field),
          "{}: columns are chosen by number and by name; use --text-column and --label-column, or "
          "--text-field and --label-field",
          path_);
  SeparatedValues::Style style{'\t', true};
  const bool guessed = given == DocumentFormat::kAuto && options_.format == DocumentFormat::kText;
  if (const char* const other = guessed ? collection_like(beginning) : nullptr; other != nullptr) {
    notes_.push_back(fmt::format(
        "{}: it looks like {} and is read as one document; --format {} reads each record as one",
        path_, std::string_view(other) == "jsonl" ? "JSON lines" : "a TSV", other));
  }
  if (options_.format == DocumentFormat::kCsv) {
    const Separator separator = separator_of(beginning);
    style = {separator.character, false};
    std::string said;
    if (separator.has_line) source_->stream.read_line(said, kMaxRecordBytes);
  }
  source_->columns.emplace(source_->stream, style, kMaxRecordBytes);
  source_->values.emplace(source_->stream, kMaxRecordBytes);
}

DocumentReader::~DocumentReader() = default;
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;

std::optional<DocumentRecord> DocumentReader::next() {
  if (at_end_) return std::nullopt;
  at_end_ = true;  // also if the stream throws
  SeparatedRecord raw;
  if (!fetch(raw)) return std::nullopt;
  at_end_ = options_.format == DocumentFormat::kText;
  DocumentRecord record;
  record.line = raw.line;
  record.number = options_.format == DocumentFormat::kJson ? line_ : raw.line;
  try {
    parse(std::move(raw), record);
    check(record);
    has_label_ |= record.label.has_value();
  } catch (const Error& error) {
    record.error = at_end_ ? fmt::format("{}: {}", path_, error.what())
                           : fmt::format("{}, line {}: {}", path_, record.line, error.what());
  }
  return record;
}

// The bytes of the next record: its columns, or one column where it has none.
bool DocumentReader::fetch(SeparatedRecord& raw) {
  std::string text;
  switch (options_.format) {
    case DocumentFormat::kAuto:
    case DocumentFormat::kText:
      raw.line = 1;
      source_->stream.read_all(text, kMaxRecordBytes + 1);
      break;
    case DocumentFormat::kLines:
    case DocumentFormat::kJsonl:
      do {
        if (!source_->stream.read_line(text, kMaxRecordBytes + 1)) return false;
        raw.line = ++line_;
      } while (is_blank(text));
      if (text.ends_with('\r')) text.pop_back();
      break;
    case DocumentFormat::kTsv:
    case DocumentFormat::kCsv: {
      if (!source_->columns->next(raw)) return false;
      const bool is_first = !std::exchange(has_begun_, true);
      return !is_first || !take_header(raw) || source_->columns->next(raw);
    }
    case DocumentFormat::kJson:
      if (!source_->values->next(text)) return false;
      ++line_;
      raw.line = source_->values->line();
      break;
  }
  raw.columns.push_back(std::move(text));
  return true;
}

// Whether the first record is a header, which may say what the columns are.
bool DocumentReader::take_header(const SeparatedRecord& first) {
  const bool given = options_.text_field || options_.label_field;
  if (!first.error.empty()) {
    require(!given, "{}, line {}, which names the columns: {}", path_, first.line, first.error);
    return options_.skip_header;
  }
  const std::vector<std::string>& names = first.columns;
  const bool is_csv = options_.format == DocumentFormat::kCsv;
  if (options_.text_column) {
    if (options_.skip_header || !looks_like_header(names)) return options_.skip_header;
    notes_.push_back(fmt::format(
        "{}, line {}: it looks like a header ({}) and is read as a document; --skip-header passes "
        "over it",
        path_, first.line, quoted_list(names)));
    return false;
  }
  const bool has_text = column_of(names, kTextField).has_value();
  const bool has_label = column_of(names, kLabelField).has_value();
  if (given || (has_text && (is_csv || has_label || names_text_alone(names)))) {
    take_names(names);
    if (!given && !is_csv && !options_.skip_header)
      notes_.push_back(
          fmt::format("{}, line {}: it names the columns ({}) and is no document; --text-column 1 "
                      "--label-column 0 takes it for one",
                      path_, first.line, quoted_list(names)));
    return true;
  }
  const bool is_header = looks_like_header(names);
  const bool in_order = is_label_and_text(names);
  const bool has_both =
      std::ranges::any_of(names, is_text_name) && std::ranges::any_of(names, is_label_name);
  const bool is_refused =
      options_.skip_header ? !in_order : is_header && (is_csv || (has_both && !in_order));
  require(!is_refused,
          "{}: the columns are named {}; choose with {}, or for a file without names with "
          "--text-column and --label-column",
          path_, quoted_list(names), field_advice(names));
  if (is_header && !options_.skip_header)
    notes_.push_back(fmt::format(
        "{}, line {}: it looks like a header ({}) and is read as a document; if it is one, {} "
        "reads the columns by name",
        path_, first.line, quoted_list(names), field_advice(names)));
  return options_.skip_header;
}

// Finds the columns by what the first line calls them.
void DocumentReader::take_names(const std::vector<std::string>& names) {
  const auto required = [&](const std::string& name, const char* what) {
    const std::optional<size_t> found = column_of(names, name);
    require(found.has_value(),
            "{}: no column is named \"{}\", but {}; choose one with --{}-field or --{}-column",
            path_, name, quoted_list(names), what, what);
    const auto alike = std::ranges::count(names, folded_label(name), folded_label);
    require(alike == 1 || std::ranges::count(names, name) == 1,
            "{}: more than one column is named \"{}\", but for upper and lower case: {}; "
            "rename all but one, or choose by --text-column and --label-column with "
            "--skip-header",
            path_, name, quoted_list(names));
    return found;
  };
  options_.text_column = required(options_.text_field.value_or(kTextField), "text");
  if (options_.label_field || column_of(names, kLabelField)) {
    options_.label_column = required(options_.label_field.value_or(kLabelField), "label");
    require(options_.text_column != options_.label_column,
            "{}: the column \"{}\" is chosen for the text and the label; choose two columns", path_,
            names[*options_.text_column]);
    return;
  }
  const auto other = std::ranges::find_if(names, is_label_name);
  if (other != names.end() && names[*options_.text_column] != *other)
    notes_.push_back(fmt::format(
        "{}: no column is named \"{}\", so that documents have no label; --label-field {} takes it "
        "from there",
        path_, kLabelField, folded_label(*other)));
}

void DocumentReader::parse(SeparatedRecord&& raw, DocumentRecord& record) const {
  require(raw.error.empty(), "{}", raw.error);
  std::string& whole = raw.columns.front();
  require(whole.size() <= kMaxRecordBytes, "more than {} bytes; split it", kMaxRecordBytes);
  switch (options_.format) {
    case DocumentFormat::kAuto:
    case DocumentFormat::kText:
    case DocumentFormat::kLines:
      record.text = std::move(whole);
      break;
    case DocumentFormat::kTsv:
    case DocumentFormat::kCsv:
      take_columns(std::move(raw.columns), record);
      break;
    case DocumentFormat::kJsonl:
    case DocumentFormat::kJson:
      take_json(whole, record);
      return;  // a NUL in it was written on purpose: "\u0000"
  }
  const bool has_nul = record.text.find('\0') != std::string::npos ||
                       record.label.value_or("").find('\0') != std::string::npos;
  require(!has_nul, "it holds a NUL, which no text does; is the file damaged or binary?");
}

void DocumentReader::take_columns(std::vector<std::string>&& columns,
                                  DocumentRecord& record) const {
  const auto column = [&](size_t index) {
    require(index < columns.size(), "expected a column {} (from 0), found {} columns", index,
            columns.size());
    return columns[index];
  };
  if (options_.text_column) {
    record.text = column(*options_.text_column);
    if (options_.label_column) record.label = column(*options_.label_column);
    return;
  }
  if (options_.format == DocumentFormat::kCsv) {
    require(columns.size() == 2,
            "expected two columns, label and text, found {}; choose them with --text-column and "
            "--label-column, or name them in the first line",
            columns.size());
  }
  require(columns.size() >= 2,
          "expected label<TAB>text, found no tab; for texts without labels choose text column 0");
  record.label = std::move(columns[0]);
  record.text = std::move(columns[1]);
  for (size_t i = 2; i < columns.size(); ++i) (record.text += '\t') += columns[i];
}

void DocumentReader::take_json(const std::string& value, DocumentRecord& record) const {
  const json object = parse_json(value);
  if (object.is_string()) {
    record.text = object.get<std::string>();
    return;
  }
  require(object.is_object(), "expected a JSON object, found a JSON {}", object.type_name());
  const std::string text_field = options_.text_field.value_or(kTextField);
  const std::string label_field = options_.label_field.value_or(kLabelField);
  const auto text = object.find(text_field);
  require(text != object.end(), "the object has no field \"{}\"; choose one with --text-field",
          text_field);
  require(text->is_string(), "expected a string in the field \"{}\", found a JSON {}", text_field,
          text->type_name());
  record.text = text->get<std::string>();
  const auto label = object.find(label_field);
  if (label == object.end() || label->is_null()) return;
  require(!label->is_structured(),
          "expected a string, number or boolean in the field \"{}\", found a JSON {}", label_field,
          label->type_name());
  record.label = label->is_string() ? label->get<std::string>() : label->dump();
}

void DocumentReader::check(const DocumentRecord& record) {
  const Utf8Count count = count_utf8(record.text);
  if (count.invalid == 0) return;
  require(count.invalid * kInvalidShare <= count.characters,
          "it is not UTF-8: {} of {} characters are none; convert it, with 'iconv -f WINDOWS-1252 "
          "-t UTF-8' say",
          count.invalid, count.characters);
  if (invalid_documents_++ == 0) first_invalid_ = record.line;
  invalid_sequences_ += count.invalid;
}

std::vector<std::string> DocumentReader::notes() const {
  std::vector<std::string> notes = notes_;
  const bool is_json =
      options_.format == DocumentFormat::kJsonl || options_.format == DocumentFormat::kJson;
  if (is_json && options_.label_field && !has_label_)
    notes.push_back(fmt::format(
        "{}: no document has a label in the field \"{}\"; choose one with --label-field", path_,
        *options_.label_field));
  if (invalid_documents_ > 0) {
    notes.push_back(
        fmt::format("{}: {} byte sequences of {} documents are not UTF-8 and count as U+FFFD, the "
                    "first on line {}",
                    path_, invalid_sequences_, invalid_documents_, first_invalid_));
  }
  return notes;
}

}  // namespace tessera
