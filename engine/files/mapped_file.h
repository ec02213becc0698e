// A whole file as memory that is read when it is touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace tessera {

// Copies share the map. The file must not be changed in place meanwhile; replacing it, as
// AtomicFile does, is safe.
class MappedFile {
 public:
  MappedFile() = default;  // no bytes
  // Throws Error, which says that `expected` ("a safetensors file") was wanted, for what is no
  // regular file, cannot be read, or is empty.
  static MappedFile open(const std::filesystem::path& path, std::string_view expected);

  // Bytes that `owner` keeps: a part of a mapped file, or memory.
  static MappedFile part(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

  std::span<const std::byte> bytes() const { return {map_.get(), size_}; }
  std::shared_ptr<const void> owner() const { return map_; }

  // Gives the pages back to the system: they stop counting as memory in use, and are read from the
  // file again when touched.
  void release_pages() const;

 private:
  std::shared_ptr<std::byte> map_;
  std::size_t size_ = 0;
  bool is_whole_ = true;
};

}  // namespace tessera
