// One directory of a TIFF: what its tags say of the picture, and the picture's pixels.
// Included by the tiff*.cpp alone.
#pragma once

#include <cstdint>
#include <optional>

#include "models/image/image.h"
#include "models/image/tiff_context.h"

namespace tessera {

// What a directory's tags say, checked.
struct TiffPage {
  int64_t height = 0;
  int64_t width = 0;
  int64_t colours = 0;        // 1 (grey or palette index) or 3
  int64_t samples = 0;        // per pixel and plane, with alpha
  int64_t planes = 1;         // 1, or one per colour
  int64_t stored_planes = 1;  // the same with alpha's
  int64_t first = 0;          // sample of a pixel, or plane where they are in planes, that is read
  int64_t bits = 0;           // per sample
  bool is_float = false;
  bool white_is_zero = false;
  bool has_palette = false;
  bool tiled = false;
  int64_t chunk_height = 0;  // of a tile or strip
  int64_t chunk_width = 0;
  int64_t chunk_depth = 1;  // slices of a volume in one tile

  int64_t channels() const { return has_palette ? 3 : colours; }  // of the Image
  int64_t row_bytes() const { return (chunk_width * samples * bits + 7) / 8; }
};

// Where the pixels of one page lie.
struct TiffPlace {
  int64_t slice = 0;            // of a volume (ImageDepth)
  std::optional<uint64_t> raw;  // byte of the file where they begin, uncompressed: no directory of
                                // their own
};

// Of the current directory. With a `channel` it is grey, that sample of each pixel. Throws Error on
// what is not read, and where there is no such channel.
TiffPage read_tiff_page(TIFF* handle, int64_t max_samples, std::optional<int64_t> channel = {});

// Bytes of the current directory's picture where they lie uncompressed and without gaps, so that
// more pictures may follow; else nothing, and `why_not` says what is in the way.
struct TiffRun {
  uint64_t begin = 0;
  uint64_t size = 0;
};
std::optional<TiffRun> tiff_run(TIFF* handle, const TiffPage& page, const char** why_not);

// Whether rows lie in the file as they are in memory, but for the order of bytes: any part of them
// can be read without the rest.
bool tiff_rows_lie_open(TIFF* handle, const TiffPage& page);

// A part of the picture of the current directory, or of one that lies as its does; `stored`: null
// for light.
Image read_tiff_image(TiffContext& context, const TiffPage& page, const TiffPlace& place,
                      const ImageWindow& part, StoredValues* stored);

}  // namespace tessera
