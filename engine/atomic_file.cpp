#include "engine/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

#include "kernels/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

// Creates an empty file beside `target` under a name that no other writer has.
fs::path create_temporary(const fs::path& target) {
  static std::atomic<unsigned> serial = 0;
  for (;;) {
    fs::path temporary = target;
    temporary += fmt::format(".tmp-{}-{}", ::getpid(), serial++);
    // O_EXCL settles the race with processes of equal id in other containers on the same folder.
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) {
      ::close(descriptor);
      return temporary;
    }
    require(errno == EEXIST,
            "cannot write '{}': {}; choose an output in an existing, writable folder",
            target.string(), std::strerror(errno));
  }
}

}  // namespace

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  require(!target_.empty(), "cannot write an output without a name; name a file");
  std::error_code ignored;
  const fs::file_status status = fs::status(target_, ignored);
  require(!fs::is_directory(status), "cannot write '{}': it is a folder; name a file in it",
          target_.string());
  replace_ = !fs::exists(status) || fs::is_regular_file(status);
  // Through a symbolic link, so that the file it names is replaced and not the link.
  if (replace_ && fs::exists(status)) {
    const fs::path resolved = fs::canonical(target_, ignored);
    if (!resolved.empty()) target_ = resolved;
  }
  temporary_ = replace_ ? create_temporary(target_) : target_;
  errno = 0;  // what it holds in fail_write() is then of this file's making
}

AtomicFile::~AtomicFile() {
  stream_.close();
  std::error_code ignored;
  if (pending_ && replace_) fs::remove(temporary_, ignored);
}

std::ostream& AtomicFile::stream() {
  if (!stream_.is_open()) {
    stream_.open(temporary_, std::ios::binary);
    if (!stream_) fail_write("");
  }
  return stream_;
}

void AtomicFile::commit() {
  if (stream_.is_open()) {
    stream_.flush();
    if (!stream_) fail_write("");
    stream_.close();
    if (!stream_) fail_write("");
  }
  if (replace_ && ::rename(temporary_.c_str(), target_.c_str()) != 0) fail_write("");
  pending_ = false;
}

void AtomicFile::fail_write(std::string_view detail) const {
  const std::string reason = errno != 0 ? std::strerror(errno) : "the write failed";
  fail("cannot write '{}': {}{}{}; nothing was left behind, free space or choose another output",
       target_.string(), reason, detail.empty() ? "" : ": ", detail);
}

void write_text(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.stream().write(text.data(), static_cast<std::streamsize>(text.size()));
  file.commit();
}

}  // namespace tessera
