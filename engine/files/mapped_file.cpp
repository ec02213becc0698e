#include "engine/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

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
  mapped.map_ = {static_cast<std::byte*>(address),
                 [size = mapped.size_](std::byte* pages) { ::munmap(pages, size); }};
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

}  // namespace tessera
