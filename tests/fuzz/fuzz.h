// What the fuzzers of files that other programs made share.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "engine/files/mapped_file.h"
#include "kernels/error.h"
#include "models/import/import.h"

namespace tessera::fuzz {

inline void check(bool ok) {
  if (!ok) std::abort();
}

inline void check_error(const Error& error) {
  check(std::string(error.what()).size() < 65536);
}

// A file in memory, for readers that map files.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : number_(::memfd_create("fuzz", 0)) {
    check(number_ >= 0 &&
          ::write(number_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { ::close(number_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(number_); }
  MappedFile map() const { return MappedFile::open(path(), "a file"); }

 private:
  int number_;
};

// Reads each byte of each tensor, and what is said of the model as a model file would have it.
inline void use(const Imported& imported) {
  unsigned sum = 0;
  for (const auto& [name, tensor] : imported.tensors)
    for (const std::uint8_t byte :
         std::span(tensor.as<const std::uint8_t>(), static_cast<std::size_t>(tensor.type.bytes())))
      sum += byte;
  check(sum != 1);  // so that it is computed
  model_config_from_json(to_json(imported.config), "fuzz");
}

inline void use(const Contents& contents) {
  for (const StoredTensor& tensor : contents.tensors) {
    check_stored(tensor);
    if (tensor.is_float() && tensor.shape.size() <= Shape::kMaxRank) read_floats(tensor);
  }
}

}  // namespace tessera::fuzz
