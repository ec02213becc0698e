// Keras' models of images, built as their own description says.
#pragma once

#include "models/import/import.h"
#include "models/import/keras_model.h"

namespace tessera {

// Throws Error that lists all layers which are not supported.
Imported read_keras_image(const KerasModel& model, const Contents& contents,
                          const ImportOptions& options);

}  // namespace tessera
