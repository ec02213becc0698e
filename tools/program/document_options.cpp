#include "tools/program/document_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace tessera {

namespace {

constexpr std::pair<const char*, DocumentFormat> kFormats[] = {
    {"auto", DocumentFormat::kAuto},   {"text", DocumentFormat::kText},
    {"lines", DocumentFormat::kLines}, {"tsv", DocumentFormat::kTsv},
    {"csv", DocumentFormat::kCsv},     {"jsonl", DocumentFormat::kJsonl},
    {"json", DocumentFormat::kJson}};

}  // namespace

void DocumentFileOptions::add_to(CLI::App& command, std::vector<std::string> formats) {
  const std::string help = fmt::format("auto (by name and content), {}", fmt::join(formats, ", "));
  formats.push_back("auto");
  command.add_option("--format", format, help)->type_name("NAME")->check(CLI::IsMember(formats));
  command
      .add_option("--text-column", text_column,
                  "of TSV and CSV, from 0; else by name, or label, text")
      ->type_name("N");
  command.add_option("--label-column", label_column, "of TSV and CSV, from 0")->type_name("N");
  command.add_flag("--skip-header", skip_header,
                   "pass over the first line of a TSV or CSV; one with the names text and label "
                   "needs no option");
  const char* const names = "of JSON, or a column that the first line of a TSV or CSV names";
  command.add_option("--text-field", text_field, names)->type_name("NAME")->default_str("text");
  command.add_option("--label-field", label_field, names)->type_name("NAME")->default_str("label");
}

DocumentOptions DocumentFileOptions::reader_options() const {
  const auto* named =
      std::ranges::find_if(kFormats, [&](const auto& one) { return one.first == format; });
  return {.format = named->second,
          .text_column = text_column,
          .label_column = label_column,
          .skip_header = skip_header,
          .text_field = text_field,
          .label_field = label_field};
}

}  // namespace tessera
