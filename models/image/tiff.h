// TIFF through libtiff: multi-page, in strips or tiles, chunky or planar, classic or BigTIFF.
//
// Read: grey, RGB and palette (becomes RGB); 1 to 16 and 32 bit unsigned and 32 bit float;
// uncompressed, PackBits, LZW, Deflate, Zstandard and JPEG. One alpha (ExtraSamples 1 or 2) is
// dropped; "white is zero" is inverted; the orientation tag is not applied; bits that do not fill
// their type, as 12 of 16, are spread over its range.
// A page is a plane, and all planes are pages: those with a directory, the slices of a volume
// (ImageDepth), and those that only a description tells of (ImageJ, tifffile, MetaMorph). Overviews
// of a pyramid and masks are no pages. Where planes are missing, opening is refused with the
// numbers. Where they are channels of one picture (ImageJ, OME-XML, tifffile), or a pixel has other
// channels than grey or RGB, one is chosen, or reading is refused.
// Written (tiff_writer.cpp): grey and RGB of every pixel type, Deflate.
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
#include "models/image/stored_image.h"

namespace tessera {

// What libtiff does its work on; stable in memory because libtiff holds its address.
struct TiffContext;
struct TiffPage;
struct TiffPlace;

class TiffReader : public StoredImage {
 public:
  // From a file, which stays open and is read page by page.
  TiffReader(const std::filesystem::path& path, int64_t max_samples);

  // From memory, which must outlive the reader.
  TiffReader(std::span<const uint8_t> bytes, int64_t max_samples);

  ~TiffReader() override;

  int64_t page_count() const override;
  Image read(int64_t page, StoredValues* stored = nullptr) override;
  ImageLayout layout(int64_t page) override;
  Image read_part(int64_t page, const ImageWindow& part, StoredValues* stored = nullptr) override;
  // Levels are what a page's directory has as SubIFDs; without these the overviews behind it, where
  // the file is of one page.
  std::vector<PyramidLevel> levels() override;
  void choose_level(int64_t level) override;
  void choose_channel(int64_t channel) override;

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
  void require_chosen() const;
  TiffPage page_here(int64_t max_samples) const;
  // Goes to a page's directory; returns the place of its pixels.
  TiffPlace go_to(int64_t page);
  void go_to_directory(uint64_t offset, int64_t page);
  // Offsets of the directories with smaller pictures of a page.
  std::vector<uint64_t> smaller(const Directory& directory);

  std::unique_ptr<TiffContext> context_;
  int64_t max_samples_;
  int64_t page_count_ = 0;
  std::vector<Directory> directories_;  // by first_page
  std::vector<uint64_t> overviews_;     // offsets of tiled ones that are no pages
  // Of pages that are channels of pictures: how many there are of each, and how many pages a
  // channel's next one lies behind; and why none of them is read by itself.
  int64_t channel_pages_ = 1, channel_step_ = 1;
  std::string unchosen_;
  std::optional<int64_t> channel_;
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

// Levels of a pyramid are SubIFDs of the picture.
class TiledTiffWriter : public TiledWriter {
 public:
  TiledTiffWriter(const std::filesystem::path& path, int64_t height, int64_t width,
                  const Image::Pixels& like, bool pyramid = false);
  ~TiledTiffWriter() override;

  void commit() override;
  const std::filesystem::path& path() const override { return file_.path(); }

 private:
  void begin_level(int64_t level, int64_t height, int64_t width) override;
  void put_tile(int64_t row, int64_t column, std::span<uint8_t> bytes) override;
  void end_level() override;
  std::unique_ptr<StoredImage> open_level(int64_t level) override;
  void end() override;

  Image::Pixels like_;  // empty
  AtomicFile file_;
  std::unique_ptr<TiffContext> context_;
};

}  // namespace tessera
