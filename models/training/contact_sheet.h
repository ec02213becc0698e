// Pictures for people of what a network is trained on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/image/image.h"
#include "models/image/mask.h"
#include "models/training/augmentation.h"

namespace tessera {

// Weights (height, width) as a picture: black 0, through red and yellow to white at `greatest`.
Image weight_picture(std::span<const float> weights, std::int64_t height, std::int64_t width,
                     float greatest);

// Tiles in rows of `columns`; of each, side by side: what the network sees, with a frame around
// what it is to label; that part with the classes painted over it; and its weights, if they differ
// among known pixels of one class, on one scale for the sheet. Grey values run from the least to
// the greatest of each tile. `colours`: one per class. Pixels of weight 0 are painted grey. Throws
// Error for no tiles, or tiles that are not of `shape`.
Image contact_sheet(std::span<const TrainingTile> tiles, const TileShape& shape,
                    std::int64_t channels, std::span<const Rgb> colours, int columns);

}  // namespace tessera
