// An output file that appears whole or not at all.
//
//   AtomicFile file(path);
//   file.stream() << text;   // or let a library write to file.path()
//   file.commit();
//
// The bytes go to a temporary file in the target's own folder, and commit() gives it the target's
// name. Without commit() (an exception, say) the temporary is removed and an older target stays as
// it was. Temporaries of processes that were killed are removed by the next one that writes there.
//
// What is not a regular file at a name of its own is written to and never replaced: a device, a
// pipe, and /dev/stdout or /dev/fd/N whatever they lead to, behind what is there already. A
// symbolic link stays, and the file that it names is replaced or made.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string_view>

namespace tessera {

// What a committed file outlives.
enum class Durability {
  kProcess,  // the end of this process, however it comes
  kPower,    // and a loss of power: file and folder are synced, which waits for the disk
};

// The system calls that bring a file under its name: a test makes each of them fail.
struct FileCalls {
  int (*open)(const char* path, int flags, mode_t mode);
  ssize_t (*write)(int descriptor, const void* bytes, std::size_t count);
  int (*sync)(int descriptor);
  int (*close)(int descriptor);
  int (*rename)(const char* from, const char* to);

  static const FileCalls& of_system();
};

class AtomicFile {
 public:
  // Creates the temporary. Throws Error with the reason if the folder cannot be written.
  explicit AtomicFile(std::filesystem::path target, Durability durability = Durability::kProcess,
                      const FileCalls& calls = FileCalls::of_system());
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  std::ostream& stream();  // binary

  const std::filesystem::path& target() const { return target_; }

  // The name to write to until commit(). Throws Error for a target that is written to directly.
  const std::filesystem::path& path() const;

  // Whether the target is written to directly: not whole or not at all.
  bool is_direct() const { return temporary_.empty(); }

  // Flushes, closes and renames. Throws Error with path and reason (disk full, say) if any byte
  // could not be written; the temporary is then removed.
  void commit();

  // Throws the Error that commit() would: for writers that learn of a failure by themselves.
  // `detail` is what they know about it, may be empty. The reason is taken from errno.
  [[noreturn]] void fail_write(std::string_view detail) const;

 private:
  class Bytes;  // the stream's way to the descriptor

  void open_directly();
  void create_temporary();
  void sync_folder() const;

  std::filesystem::path target_;     // through its symbolic links
  std::filesystem::path temporary_;  // empty: written to directly
  Durability durability_;
  const FileCalls& calls_;
  int descriptor_ = -1;
  std::unique_ptr<Bytes> bytes_;
  std::ostream stream_;
};

// Writes `text` as a whole file, atomically.
void write_text(const std::filesystem::path& path, std::string_view text);

}  // namespace tessera
