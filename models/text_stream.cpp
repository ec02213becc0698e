#include "models/text_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kernels/error.h"

namespace tessera {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 16;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

// zlib hands bytes that are no gzip data through as they are.
struct TextStream::Buffer {
  std::unique_ptr<gzFile_s, decltype(&gzclose)> file{nullptr, gzclose};
  std::array<char, kChunkBytes> chunk;
  size_t used = 0;
  size_t filled = 0;
};

TextStream::TextStream(const std::string& path)
    : path_(path == "-" ? "standard input" : path), buffer_(std::make_unique<Buffer>()) {
  const int descriptor = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require(descriptor >= 0, "{}: cannot be opened: {}; give a readable file", path_,
          std::strerror(errno));
  struct stat status {};
  const bool is_folder = fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
  if (!is_folder) buffer_->file.reset(gzdopen(descriptor, "rb"));
  if (buffer_->file == nullptr) close(descriptor);
  require(!is_folder, "{}: expected a file, found a folder; name the files in it", path_);
  require(buffer_->file != nullptr, "{}: not enough memory to read it", path_);
  if (peek() &&
      std::string_view(buffer_->chunk.data(), buffer_->filled).starts_with(kByteOrderMark)) {
    buffer_->used = kByteOrderMark.size();
  }
}

TextStream::~TextStream() = default;

bool TextStream::read_line(std::string& into, size_t max_bytes) {
  return read(into, max_bytes, false);
}

bool TextStream::read_all(std::string& into, size_t max_bytes) {
  return read(into, max_bytes, true);
}

bool TextStream::read(std::string& into, size_t max_bytes, bool whole) {
  into.clear();
  if (!peek()) return false;
  Buffer& buffer = *buffer_;
  while (peek()) {
    const std::string_view rest(buffer.chunk.data() + buffer.used, buffer.filled - buffer.used);
    const size_t newline = whole ? std::string_view::npos : rest.find('\n');
    const std::string_view part = rest.substr(0, newline);
    into += part.substr(0, max_bytes - into.size());
    buffer.used += part.size();
    if (newline != std::string_view::npos) {
      ++buffer.used;
      break;
    }
  }
  return true;
}

// Makes sure that there are bytes to take; false at the end of the file.
bool TextStream::peek() {
  Buffer& buffer = *buffer_;
  if (buffer.used < buffer.filled) return true;
  const int count =
      gzread(buffer.file.get(), buffer.chunk.data(), static_cast<unsigned>(buffer.chunk.size()));
  int code = Z_OK;
  const char* message = gzerror(buffer.file.get(), &code);
  require(count >= 0 && (code == Z_OK || code == Z_STREAM_END),
          "{}: cannot be read further: {}; the file is damaged or incomplete", path_,
          code == Z_ERRNO ? std::strerror(errno) : message);
  buffer.used = 0;
  buffer.filled = static_cast<size_t>(count);
  return buffer.filled > 0;
}

}  // namespace tessera
