// Reading image files of any format, and writing arrays. PNG and TIFF writers: png.h and tiff.h.
//
// Read: PNG (png.h), JPEG (jpeg.h), BMP (bmp.h), PNM (binary, P5 and P6), TIFF (tiff.h).
// Every input is taken as hostile: its header is checked against the limit and against the size of
// the file before memory is allocated, and a truncated file is an error, never a grey rest.
// Alpha is dropped here, palettes become RGB, and orientation tags (EXIF) are not applied.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/image/image.h"
#include "models/image/image_layout.h"

namespace tessera {

class TiffReader;

// Whether a file's name ends as those of images do that can be read here.
bool is_image_name(const std::filesystem::path& path);

// One image file. A TIFF stays on disk and each page is decoded when it is read, so that a stack
// of a thousand pages needs the memory of one.
// All members throw Error naming the file, what was found and what was expected.
class ImageReader {
 public:
  explicit ImageReader(const std::filesystem::path& path, int64_t max_samples = kMaxSamples);

  // From memory (standard input, say); `name` stands for the path in errors.
  ImageReader(std::vector<uint8_t> bytes, std::string name, int64_t max_samples = kMaxSamples);

  ~ImageReader();
  ImageReader(ImageReader&&) noexcept;
  ImageReader& operator=(ImageReader&&) noexcept;

  const std::string& name() const { return name_; }
  int64_t page_count() const;    // 1 unless TIFF
  Image read(int64_t page = 0);  // 0 <= page < page_count()
  // As numbers instead of light: see StoredValues.
  Image read(int64_t page, StoredValues& stored);

  // Whether pages of any size can be read in parts, as those of a TIFF can.
  bool reads_parts() const { return tiff_ != nullptr; }
  ImageLayout layout(int64_t page = 0);
  // `part` lies inside the page.
  Image read_part(const ImageWindow& part, int64_t page = 0);

  // Of a file, whatever its name; only of a TIFF more than the first bytes are read.
  static int64_t page_count(const std::filesystem::path& path);

 private:
  void open_bytes(std::vector<uint8_t> bytes);
  void require_page(int64_t page) const;
  TiffReader& parts_of(int64_t page);
  Image read_page(int64_t page, StoredValues* stored);

  std::string name_;
  int64_t max_samples_;
  std::vector<uint8_t> bytes_;        // the file, unless it is a TIFF on disk
  std::unique_ptr<TiffReader> tiff_;  // null unless TIFF
  Image (*decode_)(std::span<const uint8_t> bytes, int64_t max_samples) = nullptr;  // unless TIFF
};

}  // namespace tessera
