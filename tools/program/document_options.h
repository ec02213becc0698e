// How a command line says what its files of documents look like.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "models/training/labelled_documents.h"

namespace tessera {

// Documents that run at once, and their bytes at most.
inline constexpr std::size_t kBatchDocuments = 64;
inline constexpr std::size_t kBatchBytes = std::size_t{16} << 20;

// `formats`: what --format takes besides "auto".
void add_document_options(CLI::App& command, DocumentFileOptions& into,
                          std::vector<std::string> formats);

}  // namespace tessera
