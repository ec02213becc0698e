// The words of a foreign HAN whose file knows them by numbers alone.
#pragma once

#include "models/import/import.h"

namespace tessera {

// Takes the words that the user names (ImportOptions::vocabulary), how texts become them, and the
// rows of `embedding` (rows, features) in the order of our vocabulary. `config` has everything
// else. Throws Error where there are none, or none that fits.
void give_words(Imported& imported, HanConfig& config, const StoredTensor& embedding,
                const ImportOptions& options);

// The words of {"the": 2, ...} that `tessera export` writes beside `model`, or that the user names.
// Throws Error where there are none, and unless there is one for each id from the first word's on.
Vocabulary exported_words(const std::string& model, const ImportOptions& options);

}  // namespace tessera
