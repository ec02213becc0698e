// What is done to a Zarr chunk's bytes when it is stored, undone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/image/zarr_metadata.h"

namespace tessera {

// The most bytes that `codecs` may store `decoded` in.
int64_t most_stored_bytes(int64_t decoded);

// Undoes `codecs`, the last first. Throws Error unless exactly `bytes` bytes come out. `codecs`
// compress once at most.
std::vector<uint8_t> decode_zarr(std::span<const ZarrCodec> codecs, std::vector<uint8_t> stored,
                                 size_t bytes);

// As the compressor "zlib" of numcodecs reads it.
std::vector<uint8_t> encode_zlib(std::span<const uint8_t> bytes);

}  // namespace tessera
