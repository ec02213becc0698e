// What the pixels of a mask file mean.
//
// Masks are numbers, not light. Of a TIFF in which white is zero (Fiji's inverting LUT) the values
// count as they are stored, as tifffile and scikit-image read them. Of an image with a palette the
// colours count for rules of colours; else its indices do if any colour is not grey (Fiji's label
// LUTs, VOC), and the greys where all are (what optimisers of PNG make of a grey image). JPEG
// changes values: what is no class there is refused with this cause, and ids of objects, which no
// list of values can check, are never taken from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/image/image.h"
#include "models/image/image_pairs.h"
#include "models/image/instances.h"
#include "models/image/mask.h"

namespace tessera {

struct MaskRules {
  enum class Kind : std::uint8_t {
    kValues,   // grey values, one per class
    kColours,  // RGB colours, one per class
    // 0 = background (class 0), any other value the id of an object (class 1); in a mask of
    // colours black and any other colour
    kObjects,
  };

  Kind kind = Kind::kValues;
  std::vector<std::int64_t> values{0, 1};  // of kValues, by class
  std::vector<Rgb> colours{};              // of kColours, by class
  std::optional<std::int64_t> ignored{};   // a grey value whose pixels teach and count nothing
  // Of kObjects: where two touch, the pixels of the one with the larger id become background, so
  // that the gap can be learnt that makes them two.
  bool separate_touching = true;

  std::size_t classes() const;

  // "ids" (values 0 .. classes - 1), "binary" (0 and 255), "values:255,0",
  // "colours:#000000,#ff8000" or "objects", each with ",ignore=V" behind it. Throws Error for
  // anything else, or for a number of classes other than `classes`.
  static MaskRules parse(std::string_view text, std::size_t classes);
  std::string to_string() const;  // which parse reads

  bool operator==(const MaskRules&) const = default;
};

// A page of a mask file.
struct MaskPage {
  Image image;
  StoredValues stored;
};
// Throws Error naming the file.
MaskPage read_mask(const ImagePair& pair);

// What each pixel of a mask holds, as one number: its grey value, its index in a palette, or red,
// green and blue as 0xrrggbb.
struct MaskNumbers {
  std::vector<std::int64_t> values;  // (height, width)
  bool colour = false;
  bool indices = false;  // of a palette

  std::string shown(std::int64_t value) const { return shown(value, colour); }
  static std::string shown(std::int64_t value, bool colour);  // "7", "#ff8000"
};
// Without a rule, colours where the mask has any and no indices. Throws Error for floats, and for
// colours where the rule wants values.
MaskNumbers mask_numbers(const MaskPage& page, std::optional<MaskRules::Kind> kind);

// A pixel without a class.
inline constexpr std::uint8_t kIgnoredClass = 255;

struct Mask {
  std::vector<std::uint8_t> classes;   // (height, width), kIgnoredClass where nobody knows
  std::vector<std::uint32_t> objects;  // (height, width) as in the file, touching or not; of
                                       // kObjects alone, else empty
};

// Throws Error that lists the values outside of the classes (the first five) and their pixels.
Mask decode_mask(const MaskPage& page, const MaskRules& rules);

// Pixels that are ignored belong to no object.
InstanceOptions without_ignored(InstanceOptions options);

// Object ids for weight maps and for counting: those of the mask, touching ones separated as its
// classes are, else the connected components of every class but the background.
std::vector<std::uint32_t> objects_of(const Mask& mask, std::int64_t height, std::int64_t width,
                                      const InstanceOptions& options);

}  // namespace tessera
