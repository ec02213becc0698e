// Whether a model is the one that it was.
#pragma once

#include <string>

#include "models/import/import.h"

namespace tessera {

// Of everything that the model's answers depend on: network, weights, words, classes, and how
// images or texts are prepared; whatever the files are called and however many it was read from.
std::string digest_of(ModelFile& file);
// Opens the model for that, as a session does.
std::string digest_of_model(const std::filesystem::path& path, const ImportOptions& options = {});

}  // namespace tessera
