// How a command line names images and their masks: what `eval` and `train` share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>

#include "models/model_file.h"
#include "models/session.h"
#include "models/training/image_data.h"

namespace tessera {

void add_image_data_options(CLI::App& command, ImageDataOptions& into, std::uint64_t& seed);

// What a model remembers of the masks that it was trained with.
std::optional<TrainedMasks> trained_masks(const Session& session);

}  // namespace tessera
