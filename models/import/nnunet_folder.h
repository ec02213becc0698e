// Model folders of nnU-Net v2: plans.json and dataset.json, and beside them fold_0, fold_1, .. or
// fold_all with a checkpoint each.
#pragma once

#include <filesystem>
#include <optional>

#include "models/import/contents.h"

namespace tessera {

// The checkpoint of a model folder: of fold_all, else of the first fold; nothing for other folders.
// Throws Error where no fold has one.
std::optional<std::filesystem::path> nnunet_checkpoint_in(const std::filesystem::path& folder);

// Of a checkpoint in a fold: said["nnunet"] = {"plans": .., "dataset": .., "configuration": ..}.
// Throws Error where they are no JSON.
void add_nnunet_plans(Contents& contents);

}  // namespace tessera
