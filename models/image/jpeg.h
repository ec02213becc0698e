// JPEG through libjpeg: hostile Huffman tables make stb_image read outside of its own.
#pragma once

#include <span>

#include "models/image/image.h"

namespace tessera {

// Decodes a whole baseline or progressive JPEG, grey or colour. Throws Error, without a file name,
// on CMYK and on anything but a complete file: libjpeg would fill what is missing with grey.
Image decode_jpeg(std::span<const uint8_t> bytes, int64_t max_samples);

}  // namespace tessera
