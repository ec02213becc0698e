#include "models/image/zarr_codecs.h"

#include <blosc.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/error.h"

namespace tessera {

namespace {

constexpr size_t kChecksumBytes = 4;

// CRC-32C (Castagnoli, RFC 3720), bits reversed.
uint32_t crc32c(std::span<const uint8_t> bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    constexpr uint32_t kPolynomial = 0x82f63b78;
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? kPolynomial : 0);
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ byte) & 0xff];
  return ~crc;
}

void remove_checksum(std::vector<uint8_t>& bytes) {
  require(bytes.size() >= kChecksumBytes, "{} bytes, too few for a checksum", bytes.size());
  uint32_t expected = 0;
  for (size_t i = 0; i < kChecksumBytes; ++i)
    expected |= uint32_t{bytes[bytes.size() - kChecksumBytes + i]} << 8 * i;
  bytes.resize(bytes.size() - kChecksumBytes);
  const uint32_t found = crc32c(bytes);
  require(found == expected, "its CRC-32C is {:08x}, expected {:08x}", found, expected);
}

void require_size(uint64_t found, size_t expected) {
  require(found == expected, "it decodes to {} bytes, expected {}", found, expected);
}

void inflate(std::span<const uint8_t> from, std::span<uint8_t> to) {
  constexpr int kEitherHeader = 15 + 32;  // zlib's or gzip's
  z_stream stream{};
  require(inflateInit2(&stream, kEitherHeader) == Z_OK, "out of memory for zlib");
  stream.next_in = const_cast<Bytef*>(from.data());
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = to.data();
  stream.avail_out = static_cast<uInt>(to.size());
  const int result = ::inflate(&stream, Z_FINISH);
  const uint64_t found = stream.total_out;
  inflateEnd(&stream);
  require(result == Z_STREAM_END, "zlib cannot decode it to {} bytes: {}", to.size(),
          result == Z_DATA_ERROR ? "it is damaged"
          : found == to.size()   ? "it has more"
                                 : "it is truncated");
  require_size(found, to.size());
}

void decompress_zstd(std::span<const uint8_t> from, std::span<uint8_t> to) {
  const size_t found = ZSTD_decompress(to.data(), to.size(), from.data(), from.size());
  require(ZSTD_isError(found) == 0, "zstd cannot decode it to {} bytes: {}", to.size(),
          ZSTD_getErrorName(found));
  require_size(found, to.size());
}

void decompress_blosc(std::span<const uint8_t> from, std::span<uint8_t> to) {
  size_t promised = 0;
  require(blosc_cbuffer_validate(from.data(), from.size(), &promised) == 0,
          "blosc finds its {} bytes damaged or truncated", from.size());
  require_size(promised, to.size());
  const int found = blosc_decompress_ctx(from.data(), to.data(), to.size(), 1);
  require(found >= 0, "blosc cannot decode it: error {}", found);
  require_size(static_cast<uint64_t>(found), to.size());
}

}  // namespace

int64_t most_stored_bytes(int64_t decoded) {
  constexpr int64_t kHeaders = 1 << 16;
  return 2 * decoded + kHeaders;
}

std::vector<uint8_t> decode_zarr(std::span<const ZarrCodec> codecs, std::vector<uint8_t> stored,
                                 size_t bytes) {
  for (size_t i = codecs.size(); i-- > 0;) {
    if (codecs[i] == ZarrCodec::kCrc32c) {
      remove_checksum(stored);
      continue;
    }
    std::vector<uint8_t> plain(bytes + i * kChecksumBytes);  // those of before it was compressed
    if (codecs[i] == ZarrCodec::kZlib) inflate(stored, plain);
    if (codecs[i] == ZarrCodec::kZstd) decompress_zstd(stored, plain);
    if (codecs[i] == ZarrCodec::kBlosc) decompress_blosc(stored, plain);
    stored = std::move(plain);
  }
  require_size(stored.size(), bytes);
  return stored;
}

std::vector<uint8_t> encode_zlib(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> packed(compressBound(static_cast<uLong>(bytes.size())));
  uLongf size = packed.size();
  const int result = compress2(packed.data(), &size, bytes.data(), static_cast<uLong>(bytes.size()),
                               Z_DEFAULT_COMPRESSION);
  require(result == Z_OK, "zlib cannot compress {} bytes: error {}", bytes.size(), result);
  packed.resize(size);
  return packed;
}

}  // namespace tessera
