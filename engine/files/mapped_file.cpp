#include "engine/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "engine/files/mapped_pages.h"
#include "kernels/error.h"

namespace tessera {
namespace {

// Closes a file when it goes out of scope.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

// The files that are mapped now, by where they begin. It outlives maps that static objects keep.
struct LiveMaps {
  std::mutex mutex;
  std::map<std::uintptr_t, std::size_t> bytes;

  static LiveMaps& all() {
    static LiveMaps* const maps = new LiveMaps;
    return *maps;
  }
};

std::uintptr_t address_of(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path, std::string_view expected) {
  const std::string file = path.string();
  // Not to wait for a writer where the path is a pipe.
  const Descriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  require(descriptor.number >= 0 && ::fstat(descriptor.number, &status) == 0,
          "cannot open '{}': {}; expected {}", file, std::strerror(errno), expected);
  require(S_ISREG(status.st_mode), "cannot open '{}': it is not a regular file; expected {}", file,
          expected);
  require(status.st_size > 0, "'{}' is empty; expected {}", file, expected);
  MappedFile mapped;
  mapped.size_ = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, descriptor.number, 0);
  require(address != MAP_FAILED, "cannot map the {} bytes of '{}': {}", mapped.size_, file,
          std::strerror(errno));
  mapped.map_ = {static_cast<std::byte*>(address), [size = mapped.size_](std::byte* pages) {
                   LiveMaps& maps = LiveMaps::all();
                   const std::lock_guard lock(maps.mutex);
                   maps.bytes.erase(address_of(pages));
                   ::munmap(pages, size);
                 }};
  LiveMaps& maps = LiveMaps::all();
  const std::lock_guard lock(maps.mutex);
  maps.bytes[address_of(address)] = mapped.size_;
  return mapped;
}

MappedFile MappedFile::part(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  MappedFile part;
  part.map_ = {std::const_pointer_cast<void>(std::move(owner)),
               const_cast<std::byte*>(bytes.data())};
  part.size_ = bytes.size();
  part.is_whole_ = false;
  return part;
}

void MappedFile::release_pages() const {
  // Advice: where the system does not take it, the pages merely stay. Memory that is no file's
  // would be lost.
  if (map_ && is_whole_) ::madvise(map_.get(), size_, MADV_DONTNEED);
}

void release_pages_of(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t first = (address_of(bytes.data()) + page - 1) / page * page;
  const std::uintptr_t end = (address_of(bytes.data()) + bytes.size()) / page * page;
  if (first >= end) return;
  LiveMaps& maps = LiveMaps::all();
  const std::lock_guard lock(maps.mutex);
  auto map = maps.bytes.upper_bound(first);
  if (map == maps.bytes.begin()) return;
  --map;
  if (end <= map->first + map->second)
    ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

}  // namespace tessera
