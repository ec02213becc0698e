// TIFF through libtiff: multi-page, in strips or tiles, chunky or planar, classic or BigTIFF.
//
// Read: grey, RGB and palette (becomes RGB); 1, 2, 4, 8, 16 and 32 bit unsigned and 32 bit float;
// uncompressed, PackBits, LZW, Deflate, Zstandard and JPEG. Alpha is dropped, one extra sample per
// pixel is taken for it; "white is zero" is inverted; the orientation tag is not applied.
// Written: grey and RGB of every pixel type, Deflate.
// libtiff's messages become part of the Error; nothing is printed. The reader's errors do not name
// the file: ImageReader does.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "engine/atomic_file.h"
#include "models/image.h"

typedef struct tiff TIFF;  // libtiff's own declaration, so that its header stays in tiff.cpp

namespace tessera {

// What libtiff does its work on; stable in memory because libtiff holds its address.
struct TiffContext;

class TiffReader {
 public:
  // From a file, which stays open and is read page by page.
  TiffReader(const std::filesystem::path& path, int64_t max_samples);

  // From memory, which must outlive the reader.
  TiffReader(std::span<const uint8_t> bytes, int64_t max_samples);

  ~TiffReader();

  int64_t page_count() const { return page_count_; }
  Image read(int64_t page);

  // Whether a file that begins with `bytes` is a TIFF.
  static bool recognises(std::span<const uint8_t> bytes);

 private:
  void open(TIFF* handle);

  std::unique_ptr<TiffContext> context_;
  int64_t max_samples_;
  int64_t page_count_ = 0;
};

// Writes a stack, page after page, atomically.
class TiffWriter {
 public:
  // `expected_bytes` of uncompressed pixels decide whether the file must be a BigTIFF (above 4 GiB)
  // or may be the classic one that every program reads.
  explicit TiffWriter(const std::filesystem::path& path, int64_t expected_bytes = 0);
  ~TiffWriter();

  void append(const Image& page);
  void finish();  // the last bytes; commit() then only gives the file its name
  void commit();

 private:
  AtomicFile file_;
  std::unique_ptr<TiffContext> context_;
};

}  // namespace tessera
