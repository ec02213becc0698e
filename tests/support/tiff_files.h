// TIFF files that libtiff does not write, and images to hold files against.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/image_files.h"

namespace tessera::test {

inline constexpr uint16_t kWidth = 256, kLength = 257, kBits = 258, kPhotometric = 262,
                          kDescription = 270, kSamples = 277, kPlanar = 284, kSampleFormat = 339;

struct Tag {
  uint16_t code;
  uint16_t type;   // 2: text, 3: 16 bit, 4: 32 bit, 5: ratio
  uint32_t count;  // 0: as long as the text
  uint32_t value;
  std::string data = {};  // instead of the value, elsewhere in the file
};

// One directory, uncompressed in one strip for each plane; what lies behind it has no directory. 4
// x 4 pixels of 8 bits unless `tags` say otherwise.
inline Bytes hand_made(std::vector<Tag> tags, const Bytes& pixels, bool big = false) {
  const auto given = [&](uint16_t code, uint32_t missing) {
    const auto found = std::ranges::find(tags, code, &Tag::code);
    if (found != tags.end()) return found->value;
    tags.push_back({code, 3, 1, missing});
    return missing;
  };
  const uint32_t samples = given(kSamples, 1);
  const uint32_t plane_bytes = given(kWidth, 4) * given(kLength, 4) * given(kBits, 8) / 8;
  given(kPhotometric, 1);
  const uint32_t strips = given(kPlanar, 1) == 2 ? samples : 1;
  const uint32_t strip_bytes = strips == 1 ? plane_bytes * samples : plane_bytes;
  Bytes bytes;
  const auto put = [&](uint64_t value, int size) {
    for (int i = 0; i < size; ++i)
      bytes.push_back(static_cast<uint8_t>(value >> 8 * (big ? size - 1 - i : i)));
  };
  constexpr uint16_t kOffsets = 273, kByteCounts = 279;
  tags.push_back({kOffsets, 4, strips, 0});
  tags.push_back({kByteCounts, 4, strips, strip_bytes});
  if (samples > 1) std::ranges::find(tags, kBits, &Tag::code)->count = samples;
  std::ranges::sort(tags, {}, &Tag::code);
  const auto directory = static_cast<uint32_t>(2 + 12 * tags.size() + 4);
  uint32_t end = 8 + directory;  // of what is elsewhere
  const auto outside = [&](const Tag& tag) {
    if (!tag.data.empty()) return static_cast<uint32_t>(tag.data.size() + 1);
    const uint32_t size = tag.count * (tag.type == 3 ? 2 : 4);
    return size > 4 ? size : 0;
  };
  uint32_t first_pixel = end;
  for (const Tag& tag : tags) first_pixel += outside(tag);

  bytes.insert(bytes.end(), 2, big ? 'M' : 'I');
  put(42, 2);
  put(8, 4);
  put(tags.size(), 2);
  for (const Tag& tag : tags) {
    const uint32_t value = tag.code == kOffsets ? first_pixel : tag.value;
    put(tag.code, 2);
    put(tag.type, 2);
    put(tag.count == 0 ? tag.data.size() + 1 : tag.count, 4);
    if (const uint32_t size = outside(tag); size > 0) {
      put(end, 4);
      end += size;
    } else if (tag.type == 3 && tag.count == 1) {
      put(value, 2);
      put(0, 2);
    } else {
      put(value, 4);
    }
  }
  put(0, 4);
  for (const Tag& tag : tags) {
    if (!tag.data.empty()) {
      bytes.insert(bytes.end(), tag.data.begin(), tag.data.end());
      bytes.push_back(0);
    } else if (outside(tag) > 0) {
      for (uint32_t i = 0; i < tag.count; ++i)
        put(tag.code == kOffsets ? first_pixel + i * strip_bytes : tag.value,
            tag.type == 3 ? 2 : 4);
    }
  }
  bytes.insert(bytes.end(), pixels.begin(), pixels.end());
  return bytes;
}

template <class T>
Image expected_image(uint32_t height, uint32_t width, uint16_t colours, auto value) {
  std::vector<T> pixels;
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      for (uint16_t s = 0; s < colours; ++s) pixels.push_back(value(y, x, s));
    }
  }
  return {height, width, colours, std::move(pixels)};
}

}  // namespace tessera::test
