#include "tools/program/document_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tessera {

void add_document_options(CLI::App& command, DocumentFileOptions& into,
                          std::vector<std::string> formats) {
  const std::string help = fmt::format("auto (by name and content), {}", fmt::join(formats, ", "));
  formats.push_back("auto");
  command.add_option("--format", into.format, help)
      ->type_name("NAME")
      ->check(CLI::IsMember(formats));
  command.add_option("--text-column", into.text_column, "of TSV and CSV, from 0; else label, text")
      ->type_name("N");
  command.add_option("--label-column", into.label_column, "of TSV and CSV, from 0")->type_name("N");
  command.add_flag("--skip-header", into.skip_header,
                   "the first line of a TSV or CSV names columns");
  command.add_option("--text-field", into.text_field, "of JSON, or column named in the first line")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--label-field", into.label_field, "of JSON, or column named in the first line")
      ->type_name("NAME")
      ->capture_default_str();
}

}  // namespace tessera
