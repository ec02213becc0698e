// How a command line says what its files of documents look like.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/text/documents.h"

namespace tessera {

// Documents that run at once, and their bytes at most.
inline constexpr std::size_t kBatchDocuments = 64;
inline constexpr std::size_t kBatchBytes = std::size_t{16} << 20;

struct DocumentFileOptions {
  std::string format = "auto";
  std::optional<std::size_t> text_column, label_column;
  bool skip_header = false;
  std::optional<std::string> text_field, label_field;

  // `formats`: what --format takes besides "auto".
  void add_to(CLI::App& command, std::vector<std::string> formats);
  DocumentOptions reader_options() const;
};

}  // namespace tessera
