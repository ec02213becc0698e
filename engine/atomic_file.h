// An output file that appears whole or not at all.
//
//   AtomicFile file(path);
//   file.stream() << text;   // or let a library write to file.path()
//   file.commit();
//
// The bytes go to a temporary name in the target's own folder, and commit() renames it. Without
// commit() (an exception, say) the temporary is removed and an older target stays as it was.
// A target that is a device or a pipe (/dev/stdout) is written directly: it cannot be replaced.
#pragma once

#include <filesystem>
#include <fstream>
#include <string_view>

namespace tessera {

class AtomicFile {
 public:
  // Creates the temporary. Throws Error with the reason if the folder cannot be written.
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Binary; opened at the first call, which truncates what is there.
  std::ostream& stream();

  // The name to write to until commit().
  const std::filesystem::path& path() const { return temporary_; }

  // Flushes, closes and renames. Throws Error with path and reason (disk full, say) if any byte
  // could not be written; the temporary is then removed.
  void commit();

  // Throws the Error that commit() would: for writers that learn of a failure by themselves.
  // `detail` is what they know about it, may be empty. The reason is taken from errno.
  [[noreturn]] void fail_write(std::string_view detail) const;

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::ofstream stream_;
  bool replace_ = true;  // false: the target is a device or a pipe
  bool pending_ = true;  // the temporary exists
};

// Writes `text` as a whole file, atomically.
void write_text(const std::filesystem::path& path, std::string_view text);

}  // namespace tessera
