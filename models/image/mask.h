// Class ids per pixel as a picture for people: the overlay.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "models/image/image.h"

namespace tessera {

using Rgb = std::array<uint8_t, 3>;

// Well distinguishable colours for as many classes as wanted. The first eight (Okabe and Ito) stay
// so for colour-blind readers; further ones walk around the hue circle by the golden angle.
std::vector<Rgb> default_colours(int64_t class_count);

struct OverlayStyle {
  std::vector<Rgb> colours{};          // one per class; ids beyond throw Error
  std::vector<uint8_t> background{0};  // classes that are not painted
  float alpha = 0.35f;                 // of the class colour, inside
  float boundary_alpha = 0.9f;         // of the class colour, where a neighbour has another class
};

// `image` in 8-bit RGB with the classes painted over it. 8-bit images are shown as they are, others
// stretched from their least to their greatest value, because microscopes use a part of the range.
// Throws Error if the sizes do not agree.
Image make_overlay(const Image& image, std::span<const uint8_t> class_ids,
                   const OverlayStyle& style);

}  // namespace tessera
