// How a command line says what its files of documents look like.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/documents.h"

namespace tessera {

// Whether a file's name ends as those of documents do: .txt, .tsv, .jsonl, .ndjson, also .gz.
bool is_document_name(const std::filesystem::path& path);

struct DocumentFileOptions {
  std::string format = "auto";
  std::optional<std::size_t> text_column, label_column;
  bool skip_header = false;
  std::string text_field = "text", label_field = "label";

  // `formats`: what --format takes besides "auto".
  void add_to(CLI::App& command, std::vector<std::string> formats);
  DocumentFormat format_of(const std::string& path) const;
  DocumentOptions reader_options(const std::string& path) const;
};

}  // namespace tessera
