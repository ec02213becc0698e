// Safetensors files of other programs: the reader, and, by names and shapes, the families. The
// mutator changes the header as JSON; for the families all tensors get bytes again.
#include <cstring>
#include <string>

#include "models/import/foreign_safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_mutator.h"

namespace {

using namespace tessera;

constexpr std::size_t kLengthBytes = 8;

std::size_t header_bytes(const std::uint8_t* bytes, std::size_t size) {
  std::uint64_t length = 0;
  if (size < kLengthBytes) return 0;
  std::memcpy(&length, bytes, kLengthBytes);
  return std::min<std::uint64_t>(length, size - kLengthBytes);
}

std::string file_of(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), kLengthBytes);
  return file + header + std::string(data, '\1');
}

// The same tensors one behind the other, as many as fit.
std::string laid_out(const std::string& header) {
  constexpr std::int64_t kMostBytes = 4 << 20;
  nlohmann::json object = nlohmann::json::parse(header, nullptr, false);
  if (!object.is_object()) return {};
  std::int64_t end = 0;
  for (nlohmann::json& tensor : object) {
    if (!tensor.is_object() || !tensor.contains("shape") || !tensor["shape"].is_array()) continue;
    std::int64_t bytes = tensor.value("dtype", nlohmann::json()) == "F16"   ? 2
                         : tensor.value("dtype", nlohmann::json()) == "I64" ? 8
                                                                            : 4;
    for (const nlohmann::json& extent : tensor["shape"])
      if (!extent.is_number_integer() ||
          __builtin_mul_overflow(bytes, extent.get<std::int64_t>(), &bytes))
        bytes = -1;
    if (bytes < 0 || bytes > kMostBytes - end) continue;
    tensor["data_offsets"] = {end, end + bytes};
    end += bytes;
  }
  return file_of(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                 static_cast<std::size_t>(end));
}

template <class Use>
void read(std::span<const std::byte> bytes, const Use& use) {
  if (bytes.empty()) return;
  try {
    const fuzz::MemoryFile memory(bytes);
    use(read_safetensors(memory.map(), "fuzz"));
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size,
                                               std::size_t most, unsigned seed) {
  const std::size_t length = header_bytes(bytes, size);
  if (length == 0 || seed % 8 == 0 || most <= kLengthBytes)
    return LLVMFuzzerMutate(bytes, size, most);
  const std::uint64_t mutated =
      fuzz::mutate_json(bytes + kLengthBytes, length, most - kLengthBytes, seed / 8);
  std::memcpy(bytes, &mutated, kLengthBytes);
  return kLengthBytes + mutated;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::span<const std::byte> all = std::as_bytes(std::span(bytes, size));
  read(all, [](const Contents& contents) { fuzz::use(contents); });
  const std::string header(reinterpret_cast<const char*>(bytes) + std::min(kLengthBytes, size),
                           header_bytes(bytes, size));
  const std::string file = laid_out(header);
  read(std::as_bytes(std::span(file)),
       [](const Contents& contents) { fuzz::use(match_family(contents, {})); });
  return 0;
}
