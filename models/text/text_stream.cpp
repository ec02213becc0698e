#include "models/text/text_stream.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "engine/files/input_file.h"
#include "kernels/error.h"
#include "models/text/decompression.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 16;
// As many as decide what a file is: git looks at as many for its "binary files differ".
constexpr size_t kBeginningBytes = 8000;

// Where no newline comes within so many bytes, carriage returns are taken for line breaks.
constexpr size_t kLongestFirstLine = size_t{1} << 20;

// How code points are stored. Units of 2 bytes are UTF-16, of 4 UTF-32.
struct Encoding {
  std::string_view mark;
  size_t unit;
  bool big_endian;
};

// The mark of UTF-16 begins that of UTF-32, which therefore comes first.
constexpr Encoding kEncodings[] = {{"\xEF\xBB\xBF", 1, false},
                                   {{"\xFF\xFE\0\0", 4}, 4, false},
                                   {{"\0\0\xFE\xFF", 4}, 4, true},
                                   {"\xFF\xFE", 2, false},
                                   {"\xFE\xFF", 2, true}};
constexpr Encoding kUtf8{"", 1, false};
// Stands for what is no code point: one sequence that is not UTF-8, as decode() counts them.
constexpr char kInvalid = '\xFF';

bool is_surrogate(uint32_t unit) {
  return unit >= 0xD800 && unit <= 0xDFFF;
}

uint32_t unit_at(std::string_view bytes, size_t at, const Encoding& encoding) {
  uint32_t value = 0;
  for (size_t i = 0; i < encoding.unit; ++i) {
    const size_t place = encoding.big_endian ? encoding.unit - 1 - i : i;
    value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * place);
  }
  return value;
}

// Appends the code points of `bytes` as UTF-8 and returns how many bytes they were: all but the
// beginning of a last one.
size_t append_as_utf8(std::string& out, std::string_view bytes, const Encoding& encoding) {
  size_t at = 0;
  for (; at + encoding.unit <= bytes.size(); at += encoding.unit) {
    uint32_t code = unit_at(bytes, at, encoding);
    if (encoding.unit == 2 && code >= 0xD800 && code <= 0xDBFF) {
      if (at + 2 * encoding.unit > bytes.size()) break;
      const uint32_t low = unit_at(bytes, at + encoding.unit, encoding);
      if (low >= 0xDC00 && low <= 0xDFFF) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += encoding.unit;
      }
    }
    if (is_surrogate(code) || code > 0x10FFFF) {
      out += kInvalid;
    } else {
      append_utf8(out, code);
    }
  }
  return at;
}

}  // namespace

struct TextStream::Buffer {
  std::unique_ptr<ByteSource> source;
  Encoding encoding = kUtf8;
  std::array<char, kChunkBytes> raw;  // as the source gave it
  size_t raw_size = 0;
  std::string text;  // UTF-8
  size_t used = 0;
  char line_break = '\n';
};

TextStream::TextStream(const std::string& path)
    : path_(path == "-" ? "standard input" : path), buffer_(std::make_unique<Buffer>()) {
  const int descriptor = path == "-" ? dup(STDIN_FILENO) : open_input(path);
  require(descriptor >= 0, "{}: cannot be opened: {}; give a readable file", path_,
          std::strerror(errno));
  struct stat status {};
  const bool is_folder = fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
  if (is_folder) close(descriptor);
  require(!is_folder, "{}: expected a file, found a folder; name the files in it", path_);
  try {
    buffer_->source = open_bytes(descriptor);
  } catch (const Error& error) {
    fail("{}: cannot be read: {}", path_, error.what());
  }
  begin();
}

TextStream::~TextStream() = default;

// Reads as far as is needed to see what the file is.
void TextStream::begin() {
  Buffer& buffer = *buffer_;
  constexpr size_t kLongestMark = 4;
  while (buffer.raw_size < kLongestMark && fill() > 0) {
  }
  const std::string_view raw(buffer.raw.data(), buffer.raw_size);
  const auto* encoding = std::ranges::find_if(
      kEncodings, [&](const Encoding& one) { return raw.starts_with(one.mark); });
  if (encoding != std::end(kEncodings)) {
    buffer.encoding = *encoding;
    std::copy(raw.begin() + encoding->mark.size(), raw.end(), buffer.raw.begin());
    buffer.raw_size -= encoding->mark.size();
  }
  std::string begun;
  const auto read_until = [&](const auto& enough) {
    while (!enough() && peek()) {
      begun += buffer.text;
      buffer.used = buffer.text.size();
    }
  };
  read_until([&] { return begun.size() >= kBeginningBytes; });
  const std::string fault = fault_of_beginning(std::string_view(begun).substr(0, kBeginningBytes));
  require(fault.empty(), "{}: {}", path_, fault);
  if (begun.find('\r') != std::string::npos) {
    const auto has_newline = [&] { return begun.find('\n') != std::string::npos; };
    read_until([&] { return has_newline() || begun.size() >= kLongestFirstLine; });
    if (!has_newline()) buffer.line_break = '\r';
  }
  buffer.text = std::move(begun);
  buffer.used = 0;
}

std::string_view TextStream::beginning() const {
  return std::string_view(buffer_->text).substr(0, kBeginningBytes);
}

bool TextStream::read_line(std::string& into, size_t max_bytes) {
  return read(into, max_bytes, false);
}

bool TextStream::read_all(std::string& into, size_t max_bytes) {
  return read(into, max_bytes, true);
}

std::string_view TextStream::rest() {
  peek();
  return std::string_view(buffer_->text).substr(buffer_->used);
}

void TextStream::take(size_t count) {
  buffer_->used += count;
}

bool TextStream::read(std::string& into, size_t max_bytes, bool whole) {
  into.clear();
  if (!peek()) return false;
  while (peek()) {
    const std::string_view bytes = rest();
    const size_t newline = whole ? std::string_view::npos : bytes.find(buffer_->line_break);
    const std::string_view part = bytes.substr(0, newline);
    into += part.substr(0, max_bytes - into.size());
    take(part.size());
    if (newline != std::string_view::npos) {
      take(1);
      break;
    }
  }
  return true;
}

// Makes sure that there are bytes to take; false at the end of the file.
bool TextStream::peek() {
  Buffer& buffer = *buffer_;
  if (buffer.used < buffer.text.size()) return true;
  buffer.text.clear();
  buffer.used = 0;
  while (buffer.text.empty()) {
    const bool at_end = buffer.raw_size < buffer.encoding.unit * 2 && fill() == 0;
    const std::string_view raw(buffer.raw.data(), buffer.raw_size);
    if (buffer.encoding.unit == 1) {
      buffer.text = raw;
      buffer.raw_size = 0;
    } else {
      const size_t taken = append_as_utf8(buffer.text, raw, buffer.encoding);
      std::copy(raw.begin() + taken, raw.end(), buffer.raw.begin());
      buffer.raw_size -= taken;
    }
    if (!at_end || !buffer.text.empty()) continue;
    require(buffer.raw_size == 0,
            "{}: cannot be read further: it ends in the middle of a character; the file is "
            "incomplete",
            path_);
    return false;
  }
  return true;
}

// Raw bytes behind those that there are; returns how many came.
size_t TextStream::fill() {
  Buffer& buffer = *buffer_;
  try {
    const size_t count = buffer.source->read(std::span<char>(buffer.raw).subspan(buffer.raw_size));
    buffer.raw_size += count;
    return count;
  } catch (const Error& error) {
    fail("{}: cannot be read further: {}", path_, error.what());
  }
}

}  // namespace tessera
