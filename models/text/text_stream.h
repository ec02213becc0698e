// A text file read line by line or whole, as UTF-8: plain or compressed
// (models/text/decompression.h), in UTF-8, or with a byte order mark in UTF-16 or UTF-32.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace tessera {

class TextStream {
 public:
  // Opens `path`, "-" being the standard input; a byte order mark is passed over. Throws Error if
  // that fails, or if the first bytes are no text: those of an image, an archive, a pointer of
  // git-lfs, a NUL.
  explicit TextStream(const std::string& path);
  ~TextStream();

  // For error texts: the path, or "standard input".
  const std::string& name() const { return path_; }

  // The first bytes of the file, 8000 where it has as many; until the first of them is read.
  std::string_view beginning() const;

  // The bytes up to the next line break, which is consumed and not kept; of a line of more than
  // `max_bytes` the first ones. A line ends at a newline; in a file that has carriage returns
  // and no newline, at those. Returns false at the end of the file. Throws Error if the
  // file cannot be read further (damaged data, I/O).
  bool read_line(std::string& into, size_t max_bytes);

  // All that is left, likewise.
  bool read_all(std::string& into, size_t max_bytes);

  // The next bytes, of which take() takes the first ones; empty at the end of the file alone.
  std::string_view rest();
  void take(size_t count);

 private:
  bool read(std::string& into, size_t max_bytes, bool whole);
  bool peek();
  size_t fill();
  void begin();

  struct Buffer;
  std::string path_;
  std::unique_ptr<Buffer> buffer_;
};

// What hinders bytes from being the beginning of a text, and what to do about it: "it is a PNG
// image; ...". Empty for a text. `bytes` are UTF-8 if they are a text at all.
std::string fault_of_beginning(std::string_view bytes);

}  // namespace tessera
