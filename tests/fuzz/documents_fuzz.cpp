// libFuzzer target: hostile files of documents, through decompression, encodings and every format.
// The first byte chooses the format and the options, the rest is the file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "models/text/documents.h"
#include "models/text/labels.h"

namespace {

using namespace tessera;

void check(bool ok) {
  if (!ok) std::abort();
}

// A file in memory that has a path.
class File {
 public:
  File() : descriptor_(memfd_create("fuzz", 0)) { check(descriptor_ >= 0); }

  std::string with(std::string_view bytes) const {
    check(ftruncate(descriptor_, 0) == 0);
    check(pwrite(descriptor_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

const File& file() {
  static const File only;
  return only;
}

struct Reading {
  std::vector<DocumentRecord> records;
  std::string error;
};

Reading read(std::string_view bytes, const DocumentOptions& options) {
  Reading reading;
  try {
    DocumentReader reader(file().with(bytes), options);
    check(reader.format() != DocumentFormat::kAuto);
    while (std::optional<DocumentRecord> record = reader.next()) {
      check(record->line > 0);
      check(record->number > (reading.records.empty() ? 0 : reading.records.back().number));
      reading.records.push_back(std::move(*record));
    }
    check(!reader.next());
    reader.notes();
  } catch (const Error& error) {
    reading.error = error.what();
    check(!reading.error.empty());
  }
  return reading;
}

std::string in_quotes(std::string_view column) {
  std::string text = "\"";
  for (const char c : column) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + '"';
}

// What is written as RFC 4180 asks is read as it was.
void check_round_trip(const DocumentRecord& record) {
  if (!record.error.empty()) return;
  const std::string label = record.label.value_or("none");
  const Reading csv =
      read("text,label\n" + in_quotes(record.text) + "," + in_quotes(label) + "\r\n",
           {.format = DocumentFormat::kCsv});
  const bool has_nul =
      record.text.find('\0') != std::string::npos || label.find('\0') != std::string::npos;
  if (has_nul || !csv.error.empty()) return;  // a NUL from JSON
  check(csv.records.size() == 1);
  check(csv.records[0].text == record.text && csv.records[0].label == label);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  if (count == 0) return 0;
  constexpr DocumentFormat kFormats[] = {
      DocumentFormat::kAuto, DocumentFormat::kText,  DocumentFormat::kLines, DocumentFormat::kTsv,
      DocumentFormat::kCsv,  DocumentFormat::kJsonl, DocumentFormat::kJson,  DocumentFormat::kCsv};
  DocumentOptions options;
  options.format = kFormats[bytes[0] % std::size(kFormats)];
  options.skip_header = (bytes[0] & 0x08) != 0;
  if ((bytes[0] & 0x10) != 0) options.text_column = 1;
  if ((bytes[0] & 0x30) == 0x30) options.label_column = 0;
  if ((bytes[0] & 0x50) == 0x40) options.label_field = "label";
  const std::string_view content(reinterpret_cast<const char*>(bytes + 1), count - 1);
  const Reading once = read(content, options);
  std::vector<std::string> labels;
  for (const DocumentRecord& record : once.records) {
    if (record.label) labels.push_back(*record.label);
  }
  look_alikes(labels);
  looks_like_header(labels);
  if (!once.records.empty()) check_round_trip(once.records.back());
  const Reading twice = read(content, options);
  check(twice.error == once.error && twice.records.size() == once.records.size());
  for (size_t i = 0; i < once.records.size(); ++i)
    check(twice.records[i].text == once.records[i].text);
  return 0;
}
