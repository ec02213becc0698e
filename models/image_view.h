// The public interface's pixels as the readers of files give them.
#pragma once

#include <span>

#include "models/image/image.h"
#include "models/session.h"

namespace tessera {

// A copy. Throws Error for no pixels, for channels other than 1 and 3, and for sizes that no image
// has.
Image to_image(const ImageView& view);

void require_one_size(std::span<const ImageView> images);

}  // namespace tessera
