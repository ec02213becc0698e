// libFuzzer target: a JSON text {"array": .., "attributes": .., "chunk": "hex"}. Any metadata are
// an array or an Error; any bytes of its chunks decode to exactly its size, or are an Error.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "models/image/zarr_codecs.h"
#include "models/image/zarr_metadata.h"
#include "tests/fuzz/json_mutator.h"

namespace {

using nlohmann::json;
using namespace tessera;

void check(bool ok) {
  if (!ok) std::abort();
}

std::vector<std::uint8_t> bytes_of(const json& text) {
  std::vector<std::uint8_t> bytes;
  if (!text.is_string()) return bytes;
  const auto digit = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10) & 15u;
  };
  const auto& hex = text.get_ref<const std::string&>();
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(digit(hex[i]) << 4 | digit(hex[i + 1])));
  return bytes;
}

void use_array(const json& metadata, const std::vector<std::string>& names,
               const std::vector<std::uint8_t>& chunk) {
  const ZarrArray array = read_zarr_array(metadata);
  const std::int64_t bytes = array.chunk_bytes();
  check(bytes >= 1 && bytes <= kMostZarrChunkBytes && array.chunk.size() == array.shape.size());
  check(array.shards.empty() || array.shards.size() == array.shape.size());
  check(zarr_key(array, array.shape).find("..") == std::string::npos);
  try {
    const ZarrAxes axes = find_zarr_axes(names.empty() ? array.axes : names, array.shape);
    check(axes.y != axes.x && axes.y < array.shape.size() && axes.x < array.shape.size());
    check(axes.pages.size() + 2 + (axes.channel ? 1 : 0) == array.shape.size());
  } catch (const Error&) {
  }
  constexpr std::int64_t kMostDecoded = 1 << 20;
  if (bytes > kMostDecoded) return;
  const auto size = static_cast<std::size_t>(bytes);
  check(decode_zarr(array.codecs, chunk, size).size() == size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* text, std::size_t size) {
  const json all = json::parse(text, text + size, nullptr, false);
  if (!all.is_object()) return 0;
  std::vector<std::string> names;
  try {
    if (const auto image = read_zarr_multiscales(all.value("attributes", json()))) {
      names = image->axes;
      for (const std::string& path : image->paths)
        check(!path.empty() && path[0] != '/' && ("/" + path + "/").find("/../") == path.npos);
    }
  } catch (const Error& error) {
    check(std::string(error.what()).size() < 65536);
  }
  try {
    use_array(all.value("array", json()), names, bytes_of(all.value("chunk", json())));
  } catch (const Error& error) {
    check(std::string(error.what()).size() < 65536);
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size,
                                               std::size_t most, unsigned seed) {
  return fuzz::mutate_json(bytes, size, most, seed);
}
