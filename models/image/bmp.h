// BMP through stb_image; run-length encoded ones, which it does not read, here.
#pragma once

#include <span>

#include "models/image/image.h"

namespace tessera {

// Decodes a whole BMP of 1 to 32 bits per pixel, as RGB, or grey where stb_image says so. Throws
// Error, without a file name, on anything but a complete file: stb_image would fill the missing
// rows with black.
Image decode_bmp(std::span<const uint8_t> bytes, int64_t max_samples);

}  // namespace tessera
