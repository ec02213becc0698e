// A text file that grows by whole lines, such as a log or a journal. Each line is one write at the
// end, so that neither a kill nor another process of this machine that appends to the same file
// parts it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace tessera {

class LineFile {
 public:
  // Opens the file or makes it. With `keep` it is cut to so many bytes; a last line that a full
  // disk or a loss of power has torn is ended. Throws Error where it cannot be written.
  explicit LineFile(std::filesystem::path path, std::optional<std::uint64_t> keep = std::nullopt);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  // `line` has no line break. Throws Error, having left none of it, where the disk is full.
  void append(std::string_view line);
  // Returns once what was appended outlives a loss of power.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace tessera
