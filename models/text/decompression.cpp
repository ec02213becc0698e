#include "models/text/decompression.h"

#include <bzlib.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kernels/error.h"

namespace tessera {
namespace {

constexpr std::size_t kInflatedBytes = std::size_t{1} << 16;
// What a decoder may allocate for its window: more than the highest ordinary setting of xz (65 MiB)
// and zstd (128 MiB) needs, so that a hostile header cannot ask for gigabytes.
constexpr std::size_t kMaxWindowBytes = std::size_t{256} << 20;
constexpr int kMaxZstdWindowLog = 27;  // 128 MiB

// What a step may read and where it may write; both shrink as it does.
struct Room {
  std::span<const char> in;
  std::span<char> out;
};

// One way of compression. A file holds members, each decoded from a fresh state.
class Inflater {
 public:
  virtual ~Inflater() = default;
  virtual void restart() = 0;
  // Goes on as far as the room allows; true at the end of a member.
  virtual bool step(Room& room) = 0;
};

template <class Stream, class Byte>
void enter(Stream& stream, Room& room) {
  stream.next_in = reinterpret_cast<Byte*>(const_cast<char*>(room.in.data()));
  stream.avail_in = static_cast<decltype(stream.avail_in)>(room.in.size());
  stream.next_out = reinterpret_cast<Byte*>(room.out.data());
  stream.avail_out = static_cast<decltype(stream.avail_out)>(room.out.size());
}

template <class Stream>
void leave(const Stream& stream, Room& room) {
  room.in = room.in.last(stream.avail_in);
  room.out = room.out.last(stream.avail_out);
}

class Gzip : public Inflater {
 public:
  Gzip() {
    constexpr int kGzipAlone = 16;
    require(inflateInit2(&stream_, MAX_WBITS + kGzipAlone) == Z_OK, "not enough memory");
  }
  ~Gzip() override { inflateEnd(&stream_); }
  void restart() override { inflateReset(&stream_); }
  bool step(Room& room) override {
    enter<z_stream, Bytef>(stream_, room);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    leave(stream_, room);
    require(code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR,
            "damaged gzip data ({}); fetch it again",
            stream_.msg != nullptr ? stream_.msg : "no reason given");
    return code == Z_STREAM_END;
  }

 private:
  z_stream stream_{};
};

class Bzip2 : public Inflater {
 public:
  Bzip2() { begin(); }
  ~Bzip2() override { BZ2_bzDecompressEnd(&stream_); }
  void restart() override {
    BZ2_bzDecompressEnd(&stream_);
    begin();
  }
  bool step(Room& room) override {
    enter<bz_stream, char>(stream_, room);
    const int code = BZ2_bzDecompress(&stream_);
    leave(stream_, room);
    require(code == BZ_OK || code == BZ_STREAM_END,
            "damaged bzip2 data (its error {}); fetch it again", code);
    return code == BZ_STREAM_END;
  }

 private:
  void begin() {
    stream_ = {};
    require(BZ2_bzDecompressInit(&stream_, 0, 0) == BZ_OK, "not enough memory");
  }
  bz_stream stream_{};
};

class Xz : public Inflater {
 public:
  Xz() { begin(); }
  ~Xz() override { lzma_end(&stream_); }
  void restart() override { begin(); }
  bool step(Room& room) override {
    enter<lzma_stream, std::uint8_t>(stream_, room);
    const lzma_ret code = lzma_code(&stream_, LZMA_RUN);
    leave(stream_, room);
    require(code != LZMA_MEMLIMIT_ERROR,
            "xz data with a dictionary above {} MiB; compress it again with 'xz -9' or less",
            kMaxWindowBytes >> 20);
    require(code == LZMA_OK || code == LZMA_STREAM_END || code == LZMA_BUF_ERROR,
            "damaged xz data (its error {}); fetch it again", static_cast<int>(code));
    return code == LZMA_STREAM_END;
  }

 private:
  void begin() {
    require(lzma_stream_decoder(&stream_, kMaxWindowBytes, 0) == LZMA_OK, "not enough memory");
  }
  lzma_stream stream_ = LZMA_STREAM_INIT;
};

class Zstd : public Inflater {
 public:
  Zstd() : stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    require(stream_ != nullptr, "not enough memory");
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  void restart() override { ZSTD_DCtx_reset(stream_.get(), ZSTD_reset_session_only); }
  bool step(Room& room) override {
    ZSTD_inBuffer in{room.in.data(), room.in.size(), 0};
    ZSTD_outBuffer out{room.out.data(), room.out.size(), 0};
    const std::size_t code = ZSTD_decompressStream(stream_.get(), &out, &in);
    room.in = room.in.subspan(in.pos);
    room.out = room.out.subspan(out.pos);
    require(ZSTD_isError(code) == 0, "damaged zstd data, or of a window above {} MiB ({})",
            (std::size_t{1} << kMaxZstdWindowLog) >> 20, ZSTD_getErrorName(code));
    return code == 0;
  }

 private:
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
};

template <class One>
std::unique_ptr<Inflater> make() {
  return std::make_unique<One>();
}

struct Compressor {
  std::string_view name;
  bool (*begins)(std::string_view bytes);  // by the first kMagicBytes of a file
  std::unique_ptr<Inflater> (*open)();
};

constexpr std::size_t kMagicBytes = 10;
constexpr Compressor kCompressors[] = {
    {"gzip", [](std::string_view bytes) { return bytes.starts_with("\x1F\x8B\x08"); }, make<Gzip>},
    // "BZh", the block size, and the number of a block or of the end: a word may begin with "BZh".
    {"bzip2",
     [](std::string_view bytes) {
       return bytes.starts_with("BZh") && bytes.size() == kMagicBytes &&
              (bytes.ends_with("\x31\x41\x59\x26\x53\x59") ||
               bytes.ends_with("\x17\x72\x45\x38\x50\x90"));
     },
     make<Bzip2>},
    {"xz",
     [](std::string_view bytes) { return bytes.starts_with(std::string_view("\xFD\x37zXZ\0", 6)); },
     make<Xz>},
    // A frame, or one to skip, with which pzstd begins its files.
    {"zstd",
     [](std::string_view bytes) {
       return bytes.starts_with("\x28\xB5\x2F\xFD") ||
              (bytes.size() >= 4 && (bytes[0] & 0xF0) == 0x50 &&
               bytes.substr(1, 3) == "\x2A\x4D\x18");
     },
     make<Zstd>}};
constexpr std::string_view kCompressedEndings[] = {".gz", ".bz2", ".xz", ".zst", ".zstd"};

// A file, and what of it has been read and not yet taken.
class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // At least one byte more unless the file ends; false then.
  bool fill() {
    if (begin_ > 0) std::copy(chunk_.begin() + begin_, chunk_.begin() + end_, chunk_.begin());
    end_ -= begin_;
    begin_ = 0;
    ssize_t count = 0;
    do {
      count = ::read(descriptor_, chunk_.data() + end_, chunk_.size() - end_);
    } while (count < 0 && errno == EINTR);
    require(count >= 0, "{}", std::strerror(errno));
    end_ += static_cast<std::size_t>(count);
    return count > 0;
  }

  std::span<const char> bytes() const { return {chunk_.data() + begin_, end_ - begin_}; }
  void take(std::size_t count) { begin_ += count; }

 private:
  int descriptor_;
  std::array<char, kInflatedBytes> chunk_;
  std::size_t begin_ = 0, end_ = 0;
};

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(std::unique_ptr<File> file) : file_(std::move(file)) {}

  std::size_t read(std::span<char> into) override {
    if (file_->bytes().empty() && !file_->fill()) return 0;
    const std::size_t count = std::min(into.size(), file_->bytes().size());
    std::copy_n(file_->bytes().begin(), count, into.begin());
    file_->take(count);
    return count;
  }

 private:
  std::unique_ptr<File> file_;
};

class CompressedSource : public ByteSource {
 public:
  CompressedSource(std::unique_ptr<File> file, const Compressor& compression)
      : file_(std::move(file)), compression_(compression), decoder_(compression.open()) {}

  std::size_t read(std::span<char> into) override {
    for (;;) {
      const bool at_end = file_->bytes().empty() && !file_->fill();
      if (between_ && !begin_member(at_end)) return 0;
      Room room{file_->bytes(), into};
      const std::size_t given = room.in.size();
      const bool ended = decoder_->step(room);
      file_->take(given - room.in.size());
      between_ = ended;
      if (const std::size_t made = into.size() - room.out.size(); made > 0) return made;
      require(ended || !at_end, "its {} data end too early; the file is incomplete, fetch it again",
              compression_.name);
    }
  }

 private:
  // False where no further member comes. Zeros between members and at the end are padding.
  bool begin_member(bool at_end) {
    while (!at_end && file_->bytes().front() == '\0') {
      file_->take(1);
      at_end = file_->bytes().empty() && !file_->fill();
    }
    if (at_end) return false;
    decoder_->restart();
    between_ = false;
    return true;
  }

  std::unique_ptr<File> file_;
  const Compressor& compression_;
  std::unique_ptr<Inflater> decoder_;
  bool between_ = false;  // a member has ended, no other has begun
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(int descriptor) {
  auto file = std::make_unique<File>(descriptor);
  while (file->bytes().size() < kMagicBytes && file->fill()) {
  }
  const std::string_view start(file->bytes().data(), std::min(kMagicBytes, file->bytes().size()));
  for (const Compressor& one : kCompressors) {
    if (one.begins(start)) return std::make_unique<CompressedSource>(std::move(file), one);
  }
  return std::make_unique<PlainSource>(std::move(file));
}

std::string without_compression_ending(std::string name) {
  for (const std::string_view ending : kCompressedEndings) {
    const bool ends = name.size() > ending.size() &&
                      std::equal(ending.rbegin(), ending.rend(), name.rbegin(), [](char a, char b) {
                        return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b + ('a' - 'A')) : b);
                      });
    if (ends) {
      name.resize(name.size() - ending.size());
      return name;
    }
  }
  return name;
}

}  // namespace tessera
