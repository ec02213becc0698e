// The mask of an image, a part at a time: that of a slide need not fit into memory.
//
// As with images (pixel_source.h) a TIFF and a Zarr store stay on disk, and masks of other formats
// are held whole. Parts mean what the whole would: whether a mask is coloured is seen from all of
// it, and objects that touch across a part's border are told apart.
#pragma once

#include <functional>

#include "models/image/image_io.h"
#include "models/image/image_pairs.h"
#include "models/image/mask_rules.h"

namespace tessera {

class MaskSource {
 public:
  // Throws Error that names the file.
  explicit MaskSource(const ImagePair& pair);

  int64_t height() const { return layout_.height; }
  int64_t width() const { return layout_.width; }
  bool is_grey() const { return grey_; }
  bool white_is_zero() const { return white_is_zero_; }  // of what was read so far

  // `part` lies inside.
  MaskPage page(const ImageWindow& part);
  Mask read(const ImageWindow& part, const MaskRules& rules);
  // All of it from above to below, some rows at a time: in one piece where it is small.
  void read_rows(const std::function<void(int64_t y, int64_t height)>& take) const;

 private:
  MaskPage load(const ImageWindow& part);

  std::optional<ImageReader> reader_;  // where it is read in parts
  ImageLayout layout_;
  MaskPage whole_;  // else
  MaskPage kept_;   // rows of tiles that were decoded last
  int64_t kept_begin_ = 0, kept_end_ = 0;
  bool grey_ = true;  // all of it
  bool white_is_zero_ = false;
};

// As of a whole mask (mask_rules.h), of a part: whether the whole is grey decides what counts.
MaskNumbers mask_numbers(const MaskPage& page, std::optional<MaskRules::Kind> kind, bool grey);
Mask decode_mask(const MaskPage& page, const MaskRules& rules, bool grey);
bool is_grey(const Image& image);  // no pixel has a colour

// Opens the page of a file, which is then its only one.
ImageReader open_page(const std::filesystem::path& path, int64_t page);

}  // namespace tessera
