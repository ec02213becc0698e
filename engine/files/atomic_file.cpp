#include "engine/files/atomic_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
#include <streambuf>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporary = "tessera.tmp-";  // and PID-N

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::int64_t file_system_of(const fs::path& folder) {
  struct statfs status {};
  return ::statfs(folder.c_str(), &status) == 0 ? static_cast<std::int64_t>(status.f_type) : 0;
}

bool is_link(const fs::path& path) {
  std::error_code ignored;
  return fs::is_symlink(fs::symlink_status(path, ignored));
}

// A link such as /proc/self/fd/1 stands for an open file; the name that it shows may be none.
bool is_open_file(const fs::path& path) {
  return is_link(path) && file_system_of(folder_of(path)) == PROC_SUPER_MAGIC;
}

const char* remedy_of(int code, const char* otherwise) {
  switch (code) {
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files (ulimit -n)";
    case EFBIG:
      return "raise the limit of a file's size (ulimit -f) or choose another output";
    case ENAMETOOLONG:
      return "choose a shorter name";
    default:
      return otherwise;
  }
}

// The name behind symbolic links, which need not exist.
fs::path follow_links(const fs::path& target) {
  constexpr int kMostLinks = 40;  // as the kernel follows
  fs::path path = target;
  for (int i = 0; i < kMostLinks; ++i) {
    if (!is_link(path) || is_open_file(path)) return path;
    const fs::path to = fs::read_symlink(path);
    path = to.is_absolute() ? to : path.parent_path() / to;
  }
  fail("cannot write '{}': its symbolic links lead in a circle; choose another output",
       target.string());
}

// N, where `path` is /proc/self/fd/N by whichever name.
std::optional<int> own_descriptor(const fs::path& path) {
  std::error_code error;
  const fs::path folder = fs::canonical(folder_of(path), error);
  const fs::path self = fs::canonical("/proc/self", error);
  if (error || folder.filename() != "fd" || !folder.string().starts_with(self.string() + "/"))
    return std::nullopt;
  const std::string name = path.filename().string();
  int number = -1;
  std::from_chars(name.data(), name.data() + name.size(), number);
  return number >= 0 ? std::optional(number) : std::nullopt;
}

// Whether a lock is seen by every process that can write here: on a file system of several machines
// it may not be.
bool is_of_one_machine(const fs::path& folder) {
  constexpr std::int64_t kZfs = 0x2fc12fc1;
  constexpr std::array<std::int64_t, 8> kLocal{
      EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,       BTRFS_SUPER_MAGIC, TMPFS_MAGIC,
      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, RAMFS_MAGIC,       kZfs};
  return std::ranges::find(kLocal, file_system_of(folder)) != kLocal.end();
}

bool is_temporary(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kTemporary)) return false;
  const std::string_view numbers = std::string_view(name).substr(kTemporary.size());
  const std::size_t dash = numbers.find('-');
  const auto is_number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  };
  return dash != numbers.npos && is_number(numbers.substr(0, dash)) &&
         is_number(numbers.substr(dash + 1));
}

// Removes a temporary that no living process has locked.
void remove_if_left(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return;
  struct stat opened {
  }, named{};
  const bool ours = ::fstat(descriptor, &opened) == 0 && S_ISREG(opened.st_mode) &&
                    opened.st_uid == ::geteuid() && ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  // The name is looked at under the lock: its writer may have given the file its own name.
  if (ours && ::lstat(path.c_str(), &named) == 0 && named.st_ino == opened.st_ino &&
      named.st_dev == opened.st_dev)
    ::unlink(path.c_str());
  ::close(descriptor);
}

// Once a process for each folder, so that a million outputs do not list it a million times.
void remove_leftovers(const fs::path& folder) {
  static std::mutex mutex;
  static std::set<fs::path> looked_at;
  const std::lock_guard lock(mutex);
  std::error_code error;
  if (!looked_at.insert(fs::canonical(folder, error)).second || !is_of_one_machine(folder)) return;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_temporary(entry->path())) found.push_back(entry->path());
  }
  for (const fs::path& path : found) remove_if_left(path);
}

}  // namespace

const FileCalls& FileCalls::of_system() {
  static constexpr FileCalls kCalls{
      [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }, ::write,
      ::fsync, ::close, std::rename};
  return kCalls;
}

// Buffers what the stream is given and keeps the reason of the first write that failed.
class AtomicFile::Bytes : public std::streambuf {
 public:
  explicit Bytes(AtomicFile& file) : file_(file) { reset(); }
  int error() const { return error_; }

 protected:
  int sync() override { return drain(); }
  int_type overflow(int_type next) override {
    if (drain() != 0) return traits_type::eof();
    if (!traits_type::eq_int_type(next, traits_type::eof())) sputc(traits_type::to_char_type(next));
    return traits_type::not_eof(next);
  }
  std::streamsize xsputn(const char* from, std::streamsize count) override {
    if (count < epptr() - pptr()) return std::streambuf::xsputn(from, count);
    return drain() == 0 && write(from, static_cast<std::size_t>(count)) ? count : 0;
  }

 private:
  void reset() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }
  int drain() {
    const bool done = write(pbase(), static_cast<std::size_t>(pptr() - pbase()));
    reset();
    return done ? 0 : -1;
  }
  bool write(const char* from, std::size_t count) {
    while (error_ == 0 && count > 0) {
      const ssize_t written = file_.calls_.write(file_.descriptor_, from, count);
      if (written < 0) {
        if (errno != EINTR) error_ = errno;
        continue;
      }
      from += written;
      count -= static_cast<std::size_t>(written);
    }
    return error_ == 0;
  }

  static constexpr std::size_t kBuffer = std::size_t{1} << 16;
  AtomicFile& file_;
  std::vector<char> buffer_ = std::vector<char>(kBuffer);
  int error_ = 0;
};

AtomicFile::AtomicFile(fs::path target, Durability durability, const FileCalls& calls)
    : durability_(durability), calls_(calls), stream_(nullptr) {
  require(!target.empty(), "cannot write an output without a name; name a file");
  std::error_code ignored;
  require(!fs::is_directory(target, ignored),
          "cannot write '{}': it is a folder; name a file in it", target.string());
  target_ = follow_links(target);
  const fs::file_status status = fs::status(target_, ignored);
  require(!fs::is_socket(status) || is_open_file(target_),
          "cannot write '{}': it is a socket; choose a file or a pipe", target.string());
  if (!is_open_file(target_) && (!fs::exists(status) || fs::is_regular_file(status))) {
    remove_leftovers(folder_of(target_));
    create_temporary();
  }
  errno = 0;  // what it holds in fail_write() is then of this file's making
}

AtomicFile::~AtomicFile() {
  // Under the lock, which closing ends.
  if (descriptor_ >= 0 && !is_direct()) ::unlink(temporary_.c_str());
  if (descriptor_ >= 0) ::close(descriptor_);
}

// Makes an empty file beside the target under a name that no other writer has, locked for as long
// as it has that name.
void AtomicFile::create_temporary() {
  static std::atomic<unsigned> serial = 0;
  for (;;) {
    temporary_ = folder_of(target_) / fmt::format("{}{}-{}", kTemporary, ::getpid(), serial++);
    // O_EXCL settles the race with processes of equal id in other containers on the same folder.
    descriptor_ = calls_.open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    require(descriptor_ >= 0 || errno == EEXIST, "cannot write '{}': {}; {}", target_.string(),
            std::strerror(errno),
            remedy_of(errno, "choose an output in an existing, writable folder"));
    if (descriptor_ < 0) continue;
    // Between the two calls another process may have taken the file for a leftover. A file system
    // without locks fails otherwise, and there nobody does so.
    const bool taken = ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    struct stat status {};
    if (!taken && ::fstat(descriptor_, &status) == 0 && status.st_nlink > 0) return;
    ::close(descriptor_);
  }
}

void AtomicFile::open_directly() {
  if (const std::optional<int> own = own_descriptor(target_)) {
    // A copy shares position and appending with the original; opened anew it would begin at 0.
    descriptor_ = ::fcntl(*own, F_DUPFD_CLOEXEC, 0);
  } else {
    descriptor_ = calls_.open(target_.c_str(), O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC, 0);
  }
}

std::ostream& AtomicFile::stream() {
  if (!bytes_) {
    if (is_direct()) open_directly();
    if (descriptor_ < 0) fail_write("");
    bytes_ = std::make_unique<Bytes>(*this);
    stream_.rdbuf(bytes_.get());
  }
  return stream_;
}

const fs::path& AtomicFile::path() const {
  require(!is_direct(),
          "cannot write '{}': this format needs a regular file; choose another output",
          target_.string());
  return temporary_;
}

void AtomicFile::commit() {
  if (bytes_ && !stream_.flush()) fail_write("");
  if (is_direct()) return;
  if (durability_ == Durability::kPower && calls_.sync(descriptor_) != 0) fail_write("");
  // Some file systems tell of a failed write when a descriptor is closed. The copy is, because the
  // lock must outlive the rename.
  const int copy = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0 || calls_.close(copy) != 0) fail_write("");
  if (calls_.rename(temporary_.c_str(), target_.c_str()) != 0) fail_write("");
  ::close(descriptor_);
  descriptor_ = -1;
  if (durability_ == Durability::kPower) sync_folder();
}

// Makes the new name itself outlive a loss of power. A folder that cannot be read, and a file
// system without this call, are left to their own ways.
void AtomicFile::sync_folder() const {
  const int folder = calls_.open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  const bool failed = folder < 0 ? errno != EACCES : calls_.sync(folder) != 0 && errno != EINVAL;
  const int reason = errno;
  if (folder >= 0) ::close(folder);
  require(!failed, "'{}' is written, but may not outlive a loss of power: {}", target_.string(),
          std::strerror(reason));
}

void AtomicFile::fail_write(std::string_view detail) const {
  const int code = bytes_ && bytes_->error() != 0 ? bytes_->error() : errno;
  const std::string reason = code != 0 ? std::strerror(code) : "the write failed";
  fail("cannot write '{}': {}{}{}; {}, {}", target_.string(), reason, detail.empty() ? "" : ": ",
       detail, is_direct() ? "its end is missing" : "nothing was left behind",
       remedy_of(code, "free space or choose another output"));
}

void write_text(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.stream().write(text.data(), static_cast<std::streamsize>(text.size()));
  file.commit();
}

}  // namespace tessera
