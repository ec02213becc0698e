// What the metadata of a Zarr store say, checked: arrays of version 2 (.zarray) and 3 (zarr.json),
// and the multiscales of OME-Zarr (NGFF 0.1 to 0.5). All of it is hostile; everything here throws
// Error with what was found and what was expected.
// Formats: zarr-specs.readthedocs.io (v2, v3.1, codecs), ngff.openmicroscopy.org (0.4, 0.5).
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tessera {

enum class ZarrType : uint8_t { kU8, kU16, kU32, kF32 };

// What is done to a chunk's bytes when it is stored.
enum class ZarrCodec : uint8_t { kZlib, kZstd, kBlosc, kCrc32c };  // kZlib: gzip too

struct ZarrArray {
  std::vector<int64_t> shape;
  std::vector<int64_t> chunk;     // what is decoded at once, along each axis
  std::vector<int64_t> shards;    // chunks of a file along each axis; empty: a file for each chunk
  std::vector<std::string> axes;  // names, from version 3; empty where there are none
  ZarrType type = ZarrType::kU8;
  bool is_big_endian = false;
  bool first_axis_fastest = false;      // order "F" within a chunk
  std::array<uint8_t, 4> fill{};        // of chunks that are missing; the machine's order of bytes
  std::vector<ZarrCodec> codecs;        // in the order in which they were applied
  std::vector<ZarrCodec> index_codecs;  // of a shard's index
  bool index_at_end = true;
  std::string key_prefix;  // of a chunk's name: "c" or nothing
  char separator = '.';    // of its numbers

  int64_t sample_bytes() const {
    return type == ZarrType::kU8 ? 1 : type == ZarrType::kU16 ? 2 : 4;
  }
  int64_t chunk_bytes() const;  // decoded; at most kMostZarrChunkBytes
};

inline constexpr int64_t kMostZarrChunkBytes = int64_t{1} << 30;

// Of a .zarray, or of a zarr.json whose node is an array.
ZarrArray read_zarr_array(const nlohmann::json& metadata);

// The name of the file that has a chunk or shard, from the array's folder on.
std::string zarr_key(const ZarrArray& array, std::span<const int64_t> coordinates);

// An image of OME-Zarr: its arrays, from the largest on, as paths below its folder, which stay
// inside.
struct ZarrMultiscales {
  std::vector<std::string> axes;  // names; empty: t, c, z, y, x, as before NGFF 0.3
  std::vector<std::string> paths;
};
// Of a group's attributes; nothing where they have none.
std::optional<ZarrMultiscales> read_zarr_multiscales(const nlohmann::json& attributes);

// Which axis of an array is what.
struct ZarrAxes {
  size_t y = 0, x = 0;
  std::optional<size_t> channel;
  std::vector<size_t> pages;  // all others, whose planes are pages: the last runs fastest
};
// `names` may be empty: then two axes are y and x, three of which the last has an extent of 1 or 3
// are y, x and channel, and five are t, c, z, y and x.
ZarrAxes find_zarr_axes(const std::vector<std::string>& names, const std::vector<int64_t>& shape);

}  // namespace tessera
