// Reading image files of any format, and writing arrays. PNG and TIFF writers: png.h and tiff.h.
//
// Read: PNG (png.h), JPEG (jpeg.h), BMP (bmp.h), PNM (binary, P5 and P6), TIFF (tiff.h), and the
// folders of Zarr and OME-Zarr (zarr.h).
// Every input is taken as hostile: its header is checked against the limit and against the size of
// the file before memory is allocated, and a truncated file is an error, never a grey rest.
// Alpha is dropped here, palettes become RGB, and orientation tags (EXIF) are not applied.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/image/stored_image.h"

namespace tessera {

// Whether a file's name ends as those of images do that can be read here.
bool is_image_name(const std::filesystem::path& path);

// Whether a folder is a Zarr store of pixels; not of labels, which are results.
bool is_image_folder(const std::filesystem::path& path);

// Whether a folder is a Zarr store, of an image or of labels.
bool is_store_folder(const std::filesystem::path& path);

// What is read of a file that holds more.
struct ImageChoice {
  int64_t level = 0;                 // of its pyramid
  std::optional<int64_t> page{};     // from 0; else all are there
  std::optional<int64_t> channel{};  // from 0, of a Zarr store or TIFF; it becomes grey
};

// One image: a file, or the folder of a Zarr store. A TIFF stays on disk and each page is decoded
// when it is read, so that a stack of a thousand pages needs the memory of one. All members throw
// Error naming the file, what was found and what was expected.
class ImageReader {
 public:
  explicit ImageReader(const std::filesystem::path& path, int64_t max_samples = kMaxSamples);

  // From memory (standard input, say); `name` stands for the path in errors.
  ImageReader(std::vector<uint8_t> bytes, std::string name, int64_t max_samples = kMaxSamples);

  ~ImageReader();
  ImageReader(ImageReader&&) noexcept;
  ImageReader& operator=(ImageReader&&) noexcept;

  const std::string& name() const { return name_; }
  // Once, before the rest. Throws Error where there is no such level, page or channel, listing what
  // is there, and where the levels are not of one picture.
  void choose(const ImageChoice& choice);
  // The sizes that the first page has in its pyramid; its own alone, or none where that is unknown.
  std::vector<PyramidLevel> levels();

  int64_t page_count() const;    // 1 unless TIFF or Zarr
  Image read(int64_t page = 0);  // 0 <= page < page_count()
  // As numbers instead of light: see StoredValues.
  Image read(int64_t page, StoredValues& stored);

  // Whether pages of any size can be read in parts, as those of a TIFF and a Zarr store can.
  bool reads_parts() const { return stored_ != nullptr; }
  ImageLayout layout(int64_t page = 0);
  // `part` lies inside the page. With `stored` as numbers instead of light.
  Image read_part(const ImageWindow& part, int64_t page = 0, StoredValues* stored = nullptr);
  // Samples that read_part has decoded so far.
  int64_t samples_decoded() const { return stored_ ? stored_->samples_decoded() : 0; }

  // Of a file, whatever its name; only of a TIFF more than the first bytes are read.
  static int64_t page_count(const std::filesystem::path& path);

 private:
  void open_bytes(std::vector<uint8_t> bytes);
  void require_page(int64_t page) const;
  StoredImage& parts_of(int64_t page);
  int64_t stored_page(int64_t page) const { return only_page_.value_or(0) + page; }
  Image read_page(int64_t page, StoredValues* stored);

  std::string name_;
  int64_t max_samples_;
  std::vector<uint8_t> bytes_;           // the file, unless it stays on disk
  std::unique_ptr<StoredImage> stored_;  // a TIFF or a Zarr store
  std::optional<int64_t> only_page_;     // of it, that was chosen
  Image (*decode_)(std::span<const uint8_t> bytes, int64_t max_samples) = nullptr;  // of the others
};

}  // namespace tessera
