#include "engine/files/scratch_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/error.h"

namespace tessera {

namespace fs = std::filesystem;

int open_scratch_file(const fs::path& folder) {
  int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (file >= 0) return file;
  // Not all file systems know files without names.
  std::string name = (folder / ".tessera.XXXXXX").string();
  file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file >= 0) ::unlink(name.c_str());
  require(file >= 0, "cannot make a scratch file in '{}': {}; it must be a folder to write to",
          folder.string(), std::strerror(errno));
  return file;
}

ScratchBytes::ScratchBytes(const fs::path& folder)
    : folder_(folder), file_(open_scratch_file(folder)) {}

ScratchBytes::~ScratchBytes() {
  if (data_ != nullptr) ::munmap(data_, size_);
  ::close(file_);
}

void ScratchBytes::grow(std::size_t bytes) {
  // A write to a mapped page that the disk has no room for would end the process.
  int error = 0;
  do {
    error = ::posix_fallocate(file_, 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  require(error == 0, "cannot write a table of {} bytes to a scratch file in '{}': {}; free space",
          bytes, folder_.string(), std::strerror(error));
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  require(mapped != MAP_FAILED, "cannot map a scratch file of {} bytes in '{}': {}", bytes,
          folder_.string(), std::strerror(errno));
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = static_cast<std::byte*>(mapped);
  size_ = bytes;
}

void ScratchBytes::release() {
  // Of a shared mapping the file keeps what was written.
  if (data_ != nullptr) ::madvise(data_, size_, MADV_DONTNEED);
}

}  // namespace tessera
