// TIFF through libtiff: multi-page, in strips or tiles, chunky or planar, classic or BigTIFF.
//
// Read: grey, RGB and palette (becomes RGB); 1 to 16 and 32 bit unsigned and 32 bit float;
// uncompressed, PackBits, LZW, Deflate, Zstandard and JPEG. One alpha (ExtraSamples 1 or 2) is
// dropped; "white is zero" is inverted; the orientation tag is not applied; bits that do not fill
// their type, as 12 of 16, are spread over its range.
// A page is a plane, and all planes are pages: those with a directory, the slices of a volume
// (ImageDepth), and those that only a description tells of (ImageJ, tifffile, MetaMorph). Overviews
// of a pyramid and masks are no pages. Where planes are missing, or are channels of one picture
// (ImageJ, OME-XML), opening is refused with the numbers.
// Written: grey and RGB of every pixel type, Deflate.
// libtiff's messages become part of the Error; nothing is printed. The reader's errors do not name
// the file: ImageReader does.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/files/atomic_file.h"
#include "models/image/image.h"
#include "models/image/image_layout.h"

namespace tessera {

// What libtiff does its work on; stable in memory because libtiff holds its address.
struct TiffContext;
struct TiffPlace;

class TiffReader {
 public:
  // From a file, which stays open and is read page by page.
  TiffReader(const std::filesystem::path& path, int64_t max_samples);

  // From memory, which must outlive the reader.
  TiffReader(std::span<const uint8_t> bytes, int64_t max_samples);

  ~TiffReader();

  int64_t page_count() const { return page_count_; }
  // With `stored`, the values as they lie in the file: see StoredValues.
  Image read(int64_t page, StoredValues* stored = nullptr);
  // Of a page of any size: what it is, and a part of it, which lies inside.
  ImageLayout layout(int64_t page);
  Image read_part(int64_t page, const ImageWindow& part);

  // Whether a file that begins with `bytes` is a TIFF.
  static bool recognises(std::span<const uint8_t> bytes);

 private:
  struct Directory {
    uint64_t offset;  // in the file
    int64_t first_page;
    std::optional<uint64_t> raw;  // where planes without a directory begin, of
    uint64_t raw_size;            // so many bytes each
  };
  void find_directories();
  // Goes to a page's directory; returns the place of its pixels.
  TiffPlace go_to(int64_t page);

  std::unique_ptr<TiffContext> context_;
  int64_t max_samples_;
  int64_t page_count_ = 0;
  std::vector<Directory> directories_;  // by first_page
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

// Writes one grey picture of any size in tiles, atomically and in any order.
class TiledTiffWriter {
 public:
  static constexpr int64_t kTile = 512;  // pixels a side

  // `like` has the picture's type of pixels. What is committed outlives a loss of power.
  TiledTiffWriter(const std::filesystem::path& path, int64_t height, int64_t width,
                  const Image::Pixels& like);
  ~TiledTiffWriter();

  // One tile or several, each once: `part` begins with pixel (y, x), multiples of kTile, and its
  // sides are multiples too or end with the picture.
  void write(int64_t y, int64_t x, const Image& part);
  void finish();  // the last bytes; commit() then only gives the file its name
  void commit();
  // Where it lies until then, to be read once it is finished.
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  int64_t height_, width_;
  int64_t missing_;  // tiles
  AtomicFile file_;
  std::unique_ptr<TiffContext> context_;
  std::vector<uint8_t> tile_;
};

}  // namespace tessera
