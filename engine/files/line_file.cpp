#include "engine/files/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace tessera {

LineFile::LineFile(std::filesystem::path path, std::optional<std::uint64_t> keep)
    : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  require(descriptor_ >= 0, "cannot write '{}': {}; choose an existing, writable folder",
          path_.string(), std::strerror(errno));
  bool ready = !keep || ::ftruncate(descriptor_, static_cast<off_t>(*keep)) == 0;
  char last = '\n';
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);
  if (ready && end > 0 && ::pread(descriptor_, &last, 1, end - 1) == 1 && last != '\n')
    ready = ::write(descriptor_, "\n", 1) == 1;
  if (ready) return;
  const int reason = errno;
  ::close(descriptor_);
  fail("cannot write '{}': {}", path_.string(), std::strerror(reason));
}

LineFile::~LineFile() {
  ::close(descriptor_);
}

void LineFile::append(std::string_view line) {
  std::string text(line);
  text += '\n';
  const ssize_t written = ::write(descriptor_, text.data(), text.size());
  if (std::cmp_equal(written, text.size())) return;
  const int reason = written < 0 ? errno : ENOSPC;
  // A part is taken back, unless another process has appended behind it: readers pass over that.
  const off_t position = ::lseek(descriptor_, 0, SEEK_CUR), end = ::lseek(descriptor_, 0, SEEK_END);
  const bool torn =
      written > 0 && (position != end || ::ftruncate(descriptor_, end - written) != 0);
  fail("cannot write '{}': {}{}; free space or choose another folder", path_.string(),
       std::strerror(reason), torn ? ", and its last line is torn" : "");
}

void LineFile::sync() {
  require(::fsync(descriptor_) == 0, "cannot write '{}': {}; free space or choose another folder",
          path_.string(), std::strerror(errno));
}

}  // namespace tessera
