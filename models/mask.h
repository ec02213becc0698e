// Class ids per pixel as pictures: the plain mask, and the overlay that a person looks at.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "models/image.h"

namespace tessera {

using Rgb = std::array<uint8_t, 3>;

// Well distinguishable colours for as many classes as wanted. The first eight (Okabe and Ito) stay
// so for colour-blind readers; further ones walk around the hue circle by the golden angle.
std::vector<Rgb> default_colours(int64_t class_count);

// The ids as grey values, 8-bit up to 256 classes and 16-bit up to 65536. `class_ids` is
// (height, width). Throws Error for more classes, an id outside [0, class_count) or a wrong size.
Image make_mask(std::span<const int32_t> class_ids, int64_t height, int64_t width,
                int64_t class_count);

struct OverlayStyle {
  std::vector<Rgb> colours{};          // one per class; ids beyond throw Error
  std::vector<int32_t> background{0};  // classes that are not painted
  float alpha = 0.35f;                 // of the class colour, inside
  float boundary_alpha = 0.9f;         // of the class colour, where a neighbour has another class
};

// `image` in 8-bit RGB with the classes painted over it. 8-bit images are shown as they are, others
// stretched from their least to their greatest value, because microscopes use a part of the range.
// Throws Error if the sizes do not agree.
Image make_overlay(const Image& image, std::span<const int32_t> class_ids,
                   const OverlayStyle& style);

}  // namespace tessera
