// The mask that a model makes of an image which need not fit into memory, row by row: for
// `tessera eval`, which writes none.
#pragma once

#include <functional>
#include <span>

#include "models/image/pixel_source.h"
#include "models/session.h"

namespace tessera {

// Calls take(y, rows) with the class ids of some rows at a time, all columns, from above to below;
// they are those of the image in memory. Between windows they wait in a scratch file in the folder
// for temporary files (TMPDIR). `progress` hears which part is done. Throws Error where the model
// needs the whole image.
void segment_rows(
    Session& session, PixelSource& image, const std::function<void(double done)>& progress,
    const std::function<void(std::int64_t y, std::span<const std::uint8_t> rows)>& take);

}  // namespace tessera
