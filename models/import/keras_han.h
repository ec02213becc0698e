// Keras' hierarchical attention networks, as DeepResearch, richliao and others build them: an
// encoder of a sentence's words inside of TimeDistributed, and the same once more over sentences.
#pragma once

#include "models/import/import.h"
#include "models/import/keras_model.h"

namespace tessera {

bool is_keras_han(const KerasModel& model);

// Throws Error, naming the layer, for what HanConfig does not express, and where no vocabulary is
// given.
Imported read_keras_han(const KerasModel& model, const Contents& contents,
                        const ImportOptions& options);

}  // namespace tessera
