#include "tools/document_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace tessera {

bool is_document_name(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  constexpr const char* kEndings[] = {".txt", ".tsv", ".jsonl", ".ndjson"};
  return std::ranges::any_of(kEndings, [&](const char* end) { return name.ends_with(end); });
}

void DocumentFileOptions::add_to(CLI::App& command, std::vector<std::string> formats) {
  const std::string help = fmt::format("auto (by name), {}", fmt::join(formats, ", "));
  formats.push_back("auto");
  command.add_option("--format", format, help)->type_name("NAME")->check(CLI::IsMember(formats));
  command.add_option("--text-column", text_column, "of TSV, from 0; else label, text")
      ->type_name("N");
  command.add_option("--label-column", label_column, "of TSV, from 0")->type_name("N");
  command.add_flag("--skip-header", skip_header, "the first line of a TSV names columns");
  command.add_option("--text-field", text_field, "of JSON lines")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--label-field", label_field, "of JSON lines")
      ->type_name("NAME")
      ->capture_default_str();
}

DocumentFormat DocumentFileOptions::format_of(const std::string& path) const {
  if (format == "tsv") return DocumentFormat::kTsv;
  if (format == "jsonl") return DocumentFormat::kJsonl;
  if (format == "text" || format == "lines") return DocumentFormat::kText;
  return document_format_of(path);
}

DocumentOptions DocumentFileOptions::reader_options(const std::string& path) const {
  return {.format = format_of(path),
          .text_column = text_column,
          .label_column = label_column,
          .skip_header = skip_header,
          .text_field = text_field,
          .label_field = label_field};
}

}  // namespace tessera
