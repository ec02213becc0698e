// The bytes of a file as they were before it was compressed with gzip, bzip2, xz or zstd: which of
// these, if any, its first bytes say.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace tessera {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Fills the beginning of `into`, which is not empty, and returns how many bytes came; 0 at the
  // end. Throws Error, which says the cause alone, if the file is damaged, ends too early or cannot
  // be read.
  virtual std::size_t read(std::span<char> into) = 0;
};

// Takes over the descriptor of an open file. Files that were compressed one after another into one
// are read as one.
std::unique_ptr<ByteSource> open_bytes(int descriptor);

// The name without an ending such as ".gz", in whatever case.
std::string without_compression_ending(std::string name);

}  // namespace tessera
