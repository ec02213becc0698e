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
  command
      .add_option("--text-column", into.text_column,
                  "of TSV and CSV, from 0; else by name, or label, text")
      ->type_name("N");
  command.add_option("--label-column", into.label_column, "of TSV and CSV, from 0")->type_name("N");
  command.add_flag("--skip-header", into.skip_header,
                   "pass over the first line of a TSV or CSV; one with the names text and label "
                   "needs no option");
  const char* const names = "of JSON, or a column that the first line of a TSV or CSV names";
  command.add_option("--text-field", into.text_field, names)
      ->type_name("NAME")
      ->default_str("text");
  command.add_option("--label-field", into.label_field, names)
      ->type_name("NAME")
      ->default_str("label");
}

}  // namespace tessera
