#include "models/documents.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "kernels/error.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr size_t kChunkBytes = size_t{1} << 16;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

// The bytes of a file that may be gzip data; zlib hands other bytes through as they are.
class DocumentReader::Stream {
 public:
  explicit Stream(const std::string& path) : path_(path == "-" ? "standard input" : path) {
    const int descriptor =
        path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(descriptor >= 0, "{}: cannot be opened: {}; give a readable file", path_,
            std::strerror(errno));
    struct stat status {};
    const bool is_folder = fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
    if (!is_folder) file_.reset(gzdopen(descriptor, "rb"));
    if (file_ == nullptr) close(descriptor);
    require(!is_folder, "{}: expected a file, found a folder; name the files in it", path_);
    require(file_ != nullptr, "{}: not enough memory to read it", path_);
    if (peek() && std::string_view(chunk_.data(), filled_).starts_with(kByteOrderMark)) {
      used_ = kByteOrderMark.size();
    }
  }

  const std::string& name() const { return path_; }

  // Appends up to the next newline, which is consumed, or (`whole`) the end of the file; at most
  // kMaxRecordBytes + 1 bytes are kept of a longer one. Returns false at the end of the file.
  bool read(std::string& into, bool whole) {
    into.clear();
    if (!peek()) return false;
    while (peek()) {
      const std::string_view rest(chunk_.data() + used_, filled_ - used_);
      const size_t newline = whole ? std::string_view::npos : rest.find('\n');
      const std::string_view part = rest.substr(0, newline);
      into += part.substr(0, kMaxRecordBytes + 1 - into.size());
      used_ += part.size();
      if (newline != std::string_view::npos) {
        ++used_;
        break;
      }
    }
    return true;
  }

 private:
  // Makes sure that there are bytes to take; false at the end of the file.
  bool peek() {
    if (used_ < filled_) return true;
    const int count = gzread(file_.get(), chunk_.data(), static_cast<unsigned>(chunk_.size()));
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    require(count >= 0 && (code == Z_OK || code == Z_STREAM_END),
            "{}: cannot be read further: {}; the file is damaged or incomplete", path_,
            code == Z_ERRNO ? std::strerror(errno) : message);
    used_ = 0;
    filled_ = static_cast<size_t>(count);
    return filled_ > 0;
  }

  std::string path_;
  std::unique_ptr<gzFile_s, decltype(&gzclose)> file_{nullptr, gzclose};
  std::array<char, kChunkBytes> chunk_;
  size_t used_ = 0;
  size_t filled_ = 0;
};

DocumentFormat document_format_of(const std::string& path) {
  std::string_view name = path;
  if (name.ends_with(".gz")) name.remove_suffix(3);
  if (name.ends_with(".tsv")) return DocumentFormat::kTsv;
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return DocumentFormat::kJsonl;
  return DocumentFormat::kText;
}

DocumentReader::DocumentReader(const std::string& path, DocumentOptions options)
    : options_(std::move(options)), stream_(std::make_unique<Stream>(path)) {
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
    stream_->read(record->text, true);
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
  while (stream_->read(line, false)) {
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
