// A text file read line by line or whole, plain or compressed with gzip.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace tessera {

class TextStream {
 public:
  // Opens `path`, "-" being the standard input; a UTF-8 byte order mark is passed over. Throws
  // Error if that fails.
  explicit TextStream(const std::string& path);
  ~TextStream();

  // For error texts: the path, or "standard input".
  const std::string& name() const { return path_; }

  // The bytes up to the next newline, which is consumed and not kept; of a line of more than
  // `max_bytes` the first ones. Returns false at the end of the file. Throws Error if the file
  // cannot be read further (damaged gzip data, I/O).
  bool read_line(std::string& into, size_t max_bytes);

  // All that is left, likewise.
  bool read_all(std::string& into, size_t max_bytes);

 private:
  bool read(std::string& into, size_t max_bytes, bool whole);
  bool peek();

  struct Buffer;
  std::string path_;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace tessera
