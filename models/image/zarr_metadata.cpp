#include "models/image/zarr_metadata.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "models/image/image.h"
#include "models/image/image_layout.h"

namespace tessera {

using nlohmann::json;

namespace {

static_assert(std::endian::native ==
              std::endian::little);  // fill values and swaps below rest on it

constexpr size_t kMostZarrAxes = 8;
constexpr size_t kMostZarrLevels = 64;

std::string shown(const json& value) {
  constexpr size_t kMost = 120;
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMost) text = text.substr(0, kMost) + "..";
  return text;
}

const json& zarr_member(const json& object, const char* key) {
  require(object.is_object(), "the Zarr metadata have {} where an object is expected",
          shown(object));
  const auto found = object.find(key);
  require(found != object.end(), "the Zarr metadata lack \"{}\"", key);
  return *found;
}

// A member, or null.
const json& optional_zarr_member(const json& object, const char* key) {
  static const json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? kNull : *found;
}

std::string text_of(const json& object, const char* key) {
  const json& value = zarr_member(object, key);
  require(value.is_string(), "the Zarr metadata have \"{}\": {}, expected a text", key,
          shown(value));
  return value.get<std::string>();
}

std::vector<int64_t> extents(const json& object, const char* key) {
  const json& list = zarr_member(object, key);
  require(list.is_array() && !list.empty() && list.size() <= kMostZarrAxes,
          "the Zarr metadata have \"{}\": {}, expected 1 to {} extents", key, shown(list),
          kMostZarrAxes);
  std::vector<int64_t> all;
  for (const json& one : list) {
    constexpr uint64_t kMost = uint64_t{1} << 40;
    require(one.is_number_unsigned() && one.get<uint64_t>() >= 1 && one.get<uint64_t>() <= kMost,
            "the Zarr metadata have \"{}\": {}, expected whole numbers from 1 to {}", key,
            shown(list), kMost);
    all.push_back(static_cast<int64_t>(one.get<uint64_t>()));
  }
  return all;
}

void require_rank(const std::vector<int64_t>& extents, size_t rank, const char* what) {
  require(extents.size() == rank, "the Zarr metadata have {} of {} axes in an array of {}", what,
          extents.size(), rank);
}

// ---- samples -----------------------------------------------------------------------------------

// Of version 2 ("<u2") or 3 ("uint16").
ZarrType type_of(const json& text, bool& is_big_endian) {
  struct Name {
    const char* v2;
    const char* v3;
    ZarrType type;
  };
  constexpr Name kNames[] = {{"u1", "uint8", ZarrType::kU8},
                             {"u2", "uint16", ZarrType::kU16},
                             {"u4", "uint32", ZarrType::kU32},
                             {"f4", "float32", ZarrType::kF32}};
  const std::string name = text.is_string() ? text.get<std::string>() : "";
  for (const Name& one : kNames) {
    if (name == one.v3) return one.type;
    if (name.size() == 3 && name.substr(1) == one.v2 &&
        (name[0] == '<' || name[0] == '>' || (name[0] == '|' && one.type == ZarrType::kU8))) {
      is_big_endian = name[0] == '>';
      return one.type;
    }
  }
  fail(
      "a Zarr array of the type {}, expected uint8, uint16, uint32 or float32; convert it, with "
      "numpy's astype say",
      shown(text));
}

template <class T>
std::array<uint8_t, 4> bytes_of(T value) {
  std::array<uint8_t, 4> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::array<uint8_t, 4> fill_of(const json& value, ZarrType type) {
  if (value.is_null()) return {};
  if (type == ZarrType::kF32) {
    if (value.is_number()) return bytes_of(value.get<float>());
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    if (text == "NaN") return bytes_of(std::numeric_limits<float>::quiet_NaN());
    if (text == "Infinity") return bytes_of(kInfinity);
    if (text == "-Infinity") return bytes_of(-kInfinity);
  } else if (value.is_number()) {
    const auto number = value.get<double>();
    const double most = type == ZarrType::kU8 ? 0xff : type == ZarrType::kU16 ? 0xffff : 0xffffffff;
    if (number >= 0 && number <= most && number == std::floor(number))
      return bytes_of(static_cast<uint32_t>(number));
  }
  fail("the Zarr metadata have \"fill_value\": {}, expected a number of the array's type",
       shown(value));
}

// ---- version 2 ---------------------------------------------------------------------------------

std::vector<ZarrCodec> codecs_v2(const json& metadata) {
  const json& filters = optional_zarr_member(metadata, "filters");
  require(filters.is_null() || (filters.is_array() && filters.empty()),
          "a Zarr array with the filters {}, expected none; save it without", shown(filters));
  const json& compressor = optional_zarr_member(metadata, "compressor");
  if (compressor.is_null()) return {};
  const std::string id = text_of(compressor, "id");
  if (id == "zlib" || id == "gzip") return {ZarrCodec::kZlib};
  if (id == "zstd") return {ZarrCodec::kZstd};
  if (id == "blosc") return {ZarrCodec::kBlosc};
  fail("a Zarr array compressed by {}, expected zlib, gzip, zstd, blosc or none; save it so",
       shown(id));
}

ZarrArray array_v2(const json& metadata) {
  ZarrArray array;
  array.shape = extents(metadata, "shape");
  array.chunk = extents(metadata, "chunks");
  array.type = type_of(zarr_member(metadata, "dtype"), array.is_big_endian);
  array.fill = fill_of(optional_zarr_member(metadata, "fill_value"), array.type);
  array.codecs = codecs_v2(metadata);
  const json& order = optional_zarr_member(metadata, "order");
  require(order.is_null() || order == "C" || order == "F",
          "the Zarr metadata have \"order\": {}, expected C or F", shown(order));
  array.first_axis_fastest = order == "F";
  const json& separator = optional_zarr_member(metadata, "dimension_separator");
  require(separator.is_null() || separator == "." || separator == "/",
          "the Zarr metadata have \"dimension_separator\": {}, expected . or /", shown(separator));
  array.separator = separator == "/" ? '/' : '.';
  return array;
}

// ---- version 3 ---------------------------------------------------------------------------------

// What turns samples into bytes, behind which come the codecs of bytes.
struct Codecs {
  std::string first;
  json configuration;  // of the first
  bool is_big_endian = false;
  std::vector<ZarrCodec> rest;
};

Codecs codecs_v3(const json& object, const char* key) {
  const json& list = zarr_member(object, key);
  require(list.is_array() && !list.empty() && list.size() <= kMostZarrAxes,
          "the Zarr metadata have \"{}\": {}, expected a list of codecs", key, shown(list));
  Codecs codecs;
  for (const json& one : list) {
    const std::string name = one.is_string() ? one.get<std::string>() : text_of(one, "name");
    const json& configuration = optional_zarr_member(one, "configuration");
    if (codecs.first.empty()) {
      require(name == "bytes" || name == "sharding_indexed",
              "a Zarr array with the codec {}, expected bytes or sharding_indexed first{}",
              shown(name),
              name == "transpose" ? ": its axes are stored in another order; save it in order"
                                  : "; save it so");
      codecs.first = name;
      codecs.configuration = configuration;
      const json& endian = optional_zarr_member(configuration, "endian");
      require(endian.is_null() || endian == "little" || endian == "big",
              "the Zarr metadata have \"endian\": {}, expected little or big", shown(endian));
      codecs.is_big_endian = endian == "big";
    } else if (name == "gzip") {
      codecs.rest.push_back(ZarrCodec::kZlib);
    } else if (name == "zstd") {
      codecs.rest.push_back(ZarrCodec::kZstd);
    } else if (name == "blosc") {
      codecs.rest.push_back(ZarrCodec::kBlosc);
    } else if (name == "crc32c") {
      codecs.rest.push_back(ZarrCodec::kCrc32c);
    } else {
      fail("a Zarr array with the codec {}, expected gzip, zstd, blosc or crc32c; save it so",
           shown(name));
    }
  }
  // The size between two compressors would be known to nobody.
  require(codecs.rest.size() -
                  static_cast<size_t>(std::ranges::count(codecs.rest, ZarrCodec::kCrc32c)) <=
              1,
          "a Zarr array that is compressed twice, {}; save it with one compressor", shown(list));
  return codecs;
}

void read_shards(const json& configuration, const std::vector<ZarrCodec>& around,
                 ZarrArray& array) {
  require(around.empty(), "a Zarr array whose shards are compressed whole; save it without that");
  const std::vector<int64_t> shard = array.chunk;
  array.chunk = extents(configuration, "chunk_shape");
  require_rank(array.chunk, shard.size(), "\"chunk_shape\"");
  int64_t all = 1;
  for (size_t i = 0; i < shard.size(); ++i) {
    constexpr int64_t kMostChunks = int64_t{1} << 22;  // of a shard: 64 MB of index
    const int64_t count = shard[i] / array.chunk[i];
    require(count >= 1 && shard[i] % array.chunk[i] == 0 && count <= kMostChunks / all,
            "Zarr shards of {} cut into chunks of {}, expected a whole number of them, {} at most",
            fmt::join(shard, " x "), fmt::join(array.chunk, " x "), kMostChunks);
    all *= count;
    array.shards.push_back(count);
  }
  const Codecs inner = codecs_v3(configuration, "codecs");
  require(inner.first == "bytes", "a Zarr array of shards in shards; save it with one kind");
  array.is_big_endian = inner.is_big_endian;
  array.codecs = inner.rest;
  const Codecs index = codecs_v3(configuration, "index_codecs");
  require(
      index.first == "bytes" && !index.is_big_endian &&
          std::ranges::all_of(index.rest, [](ZarrCodec one) { return one == ZarrCodec::kCrc32c; }),
      "a Zarr array whose index of shards has the codecs {}, expected bytes (little) and "
      "crc32c; save it so",
      shown(zarr_member(configuration, "index_codecs")));
  array.index_codecs = index.rest;
  const json& location = optional_zarr_member(configuration, "index_location");
  require(location.is_null() || location == "end" || location == "start",
          "the Zarr metadata have \"index_location\": {}, expected start or end", shown(location));
  array.index_at_end = location != "start";
}

void read_axis_names(const json& names, ZarrArray& array) {
  if (!names.is_array() || names.size() != array.shape.size() ||
      !std::ranges::all_of(names, [](const json& one) { return one.is_string(); }))
    return;
  for (const json& one : names) array.axes.push_back(one.get<std::string>());
}

ZarrArray array_v3(const json& metadata) {
  require(text_of(metadata, "node_type") == "array", "a Zarr group where an array is expected");
  ZarrArray array;
  array.shape = extents(metadata, "shape");
  bool ignored = false;
  array.type = type_of(zarr_member(metadata, "data_type"), ignored);
  array.fill = fill_of(optional_zarr_member(metadata, "fill_value"), array.type);
  const json& grid = zarr_member(metadata, "chunk_grid");
  require(text_of(grid, "name") == "regular",
          "a Zarr array with the chunk grid {}, expected regular", shown(grid));
  array.chunk = extents(zarr_member(grid, "configuration"), "chunk_shape");
  require_rank(array.chunk, array.shape.size(), "\"chunk_shape\"");
  const json& encoding = zarr_member(metadata, "chunk_key_encoding");
  const std::string name = text_of(encoding, "name");
  require(name == "default" || name == "v2",
          "a Zarr array with the chunk_key_encoding {}, expected default or v2", shown(encoding));
  const json& separator =
      optional_zarr_member(optional_zarr_member(encoding, "configuration"), "separator");
  require(separator.is_null() || separator == "." || separator == "/",
          "the Zarr metadata have \"separator\": {}, expected . or /", shown(separator));
  if (name == "default") array.key_prefix.push_back('c');
  array.separator = separator == "/" || (separator.is_null() && name == "default") ? '/' : '.';
  const json& transformers = optional_zarr_member(metadata, "storage_transformers");
  require(transformers.is_null() || transformers.empty(),
          "a Zarr array with the storage_transformers {}, expected none", shown(transformers));
  const Codecs codecs = codecs_v3(metadata, "codecs");
  if (codecs.first == "sharding_indexed") {
    read_shards(codecs.configuration, codecs.rest, array);
  } else {
    array.is_big_endian = codecs.is_big_endian;
    array.codecs = codecs.rest;
  }
  read_axis_names(optional_zarr_member(metadata, "dimension_names"), array);
  return array;
}

bool stays_inside(const std::string& path) {
  constexpr size_t kMostLength = 1024;
  if (path.empty() || path.size() > kMostLength || path.find('\0') != path.npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

int64_t ZarrArray::chunk_bytes() const {
  int64_t bytes = sample_bytes();
  for (const int64_t extent : chunk) {
    require(extent <= kMostZarrChunkBytes / bytes,
            "a Zarr array in chunks of {} samples of {} bytes, above the limit of {} bytes; save "
            "it in smaller ones, of 512 x 512 say",
            fmt::join(chunk, " x "), sample_bytes(), kMostZarrChunkBytes);
    bytes *= extent;
  }
  return bytes;
}

ZarrArray read_zarr_array(const json& metadata) {
  const json& version = zarr_member(metadata, "zarr_format");
  require(version == 2 || version == 3, "Zarr of the version {}, expected 2 or 3", shown(version));
  ZarrArray array = version == 2 ? array_v2(metadata) : array_v3(metadata);
  require_rank(array.chunk, array.shape.size(), "chunks");
  array.chunk_bytes();
  return array;
}

std::string zarr_key(const ZarrArray& array, std::span<const int64_t> coordinates) {
  std::string key = array.key_prefix;
  for (const int64_t one : coordinates) {
    if (!key.empty()) key += array.separator;
    key += std::to_string(one);
  }
  return key;
}

std::optional<ZarrMultiscales> read_zarr_multiscales(const json& attributes) {
  const json& ome = optional_zarr_member(attributes, "ome");
  const json& list = optional_zarr_member(ome.is_object() ? ome : attributes, "multiscales");
  if (!list.is_array() || list.empty()) return std::nullopt;
  ZarrMultiscales image;
  const json& axes = optional_zarr_member(list[0], "axes");
  if (axes.is_array()) {
    require(axes.size() <= kMostZarrAxes, "a multiscales image of {} axes, expected {} at most",
            axes.size(), kMostZarrAxes);
    for (const json& axis : axes)
      image.axes.push_back(axis.is_string() ? axis.get<std::string>() : text_of(axis, "name"));
  }
  const json& levels = zarr_member(list[0], "datasets");
  require(levels.is_array() && !levels.empty() && levels.size() <= kMostZarrLevels,
          "a multiscales image with the datasets {}, expected 1 to {}", shown(levels),
          kMostZarrLevels);
  for (const json& level : levels) {
    const std::string path = text_of(level, "path");
    require(stays_inside(path), "a multiscales image with the path {}, expected one inside of it",
            shown(path));
    image.paths.push_back(path);
  }
  return image;
}

ZarrAxes find_zarr_axes(const std::vector<std::string>& names, const std::vector<int64_t>& shape) {
  std::vector<std::string> all = names;
  if (all.empty()) {
    const bool last_is_colour = shape.back() == 1 || shape.back() == 3;
    if (shape.size() == 2) all = {"y", "x"};
    if (shape.size() == 3 && last_is_colour) all = {"y", "x", "c"};
    if (shape.size() == 5) all = {"t", "c", "z", "y", "x"};
    require(!all.empty(),
            "a Zarr array of {} without names for its axes; give it dimension_names, or save it as "
            "OME-Zarr",
            fmt::join(shape, " x "));
  }
  require(all.size() == shape.size(), "a Zarr array of {} axes, {}, whose metadata name {}: {}",
          shape.size(), fmt::join(shape, " x "), all.size(), fmt::join(all, ", "));
  ZarrAxes axes;
  const auto place = [&](const char* name) {
    require(std::ranges::count(all, name) == 1,
            "a Zarr image with the axes {}, expected y and x, each once", fmt::join(all, ", "));
    return static_cast<size_t>(std::ranges::find(all, name) - all.begin());
  };
  axes.y = place("y");
  axes.x = place("x");
  constexpr int64_t kMostPages = int64_t{1} << 24;
  int64_t pages = 1;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i == axes.y || i == axes.x) continue;
    if ((all[i] == "c" || all[i] == "channel") && !axes.channel) {
      axes.channel = i;
      continue;
    }
    require(shape[i] <= kMostPages / pages, "a Zarr array of {}, more planes than {}",
            fmt::join(shape, " x "), kMostPages);
    pages *= shape[i];
    axes.pages.push_back(i);
  }
  require_readable_size(shape[axes.y], shape[axes.x], axes.channel ? shape[*axes.channel] : 1,
                        kMaxSamplesInParts);
  return axes;
}

}  // namespace tessera
