// PNG through libpng: it checks every chunk's checksum and writes 16 bit, which stb_image does not.
#pragma once

#include <filesystem>
#include <optional>
#include <span>

#include "engine/files/atomic_file.h"
#include "models/image/image.h"

namespace tessera {

// Decodes a whole PNG file. 16 bit stays 16 bit, fewer than 8 become 8, a palette becomes RGB,
// alpha is dropped. Throws Error, without a file name, on anything but a complete and valid file.
Image decode_png(std::span<const uint8_t> bytes, int64_t max_samples);

// The palette's indices, (height, width) in 8 bits; nothing for a PNG without a palette.
std::optional<Image> decode_png_indices(std::span<const uint8_t> bytes, int64_t max_samples);

// Grey or RGB, 8 or 16 bit, atomically. Throws Error for other pixel types (TIFF holds them) and
// when the file cannot be written.
void write_png(const std::filesystem::path& path, const Image& image);
// The same without `commit`.
void encode_png(AtomicFile& file, const Image& image);

}  // namespace tessera
