// Any text at all, as the description of a small TIFF, gives its pages or an Error.
#include <algorithm>

#include "kernels/error.h"
#include "models/image/image_io.h"

namespace {

// `directories` pictures of 2 x 2 pixels, the text in the first; behind the last picture there is
// room for planes without a directory.
std::vector<uint8_t> describe(std::span<const uint8_t> text, uint32_t directories,
                              uint32_t samples) {
  constexpr uint32_t kSide = 2, kTags = 10, kRoom = 256;
  constexpr uint32_t kDirectorySize = 2 + 12 * kTags + 4;
  const uint32_t text_begin = 8 + directories * kDirectorySize;
  const auto text_size = static_cast<uint32_t>(text.size() + 1);
  std::vector<uint8_t> bytes;
  const auto put = [&](uint32_t value, int size) {
    for (int i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> 8 * i));
  };
  const auto tag = [&](uint32_t code, uint32_t type, uint32_t count, uint32_t value) {
    put(code, 2);
    put(type, 2);
    put(count, 4);
    put(value, 4);
  };
  put(0x002a4949, 4);
  put(8, 4);
  for (uint32_t i = 0; i < directories; ++i) {
    constexpr uint32_t kText = 2, kShort = 3, kLong = 4;
    const uint32_t begin = text_begin + text_size + i * kSide * kSide * samples;
    put(kTags, 2);
    tag(256, kShort, 1, kSide);
    tag(257, kShort, 1, kSide);
    tag(258, kShort, 1, 8);
    tag(259, kShort, 1, 1);
    tag(262, kShort, 1, samples == 3 ? 2 : 1);
    if (i == 0) {
      tag(270, kText, text_size, text_begin);
    } else {
      tag(254, kLong, 1, 0);
    }
    tag(273, kLong, 1, begin);
    tag(277, kShort, 1, samples);
    tag(278, kShort, 1, kSide);
    tag(279, kLong, 1, kSide * kSide * samples);
    put(i + 1 < directories ? 8 + (i + 1) * kDirectorySize : 0, 4);
  }
  bytes.insert(bytes.end(), text.begin(), text.end());
  bytes.resize(bytes.size() + 1 + directories * kSide * kSide * samples + kRoom);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  constexpr int64_t kMaxPages = 8;
  const std::span text(bytes, size);
  for (const uint32_t directories : {1u, 3u}) {
    for (const uint32_t samples : {1u, 3u}) {
      try {
        tessera::ImageReader reader(describe(text, directories, samples), "fuzz");
        if (reader.page_count() < directories) __builtin_trap();  // a page was lost
        for (int64_t page = 0; page < std::min(reader.page_count(), kMaxPages); ++page)
          reader.read(page);
      } catch (const tessera::Error&) {
      }
    }
  }
  return 0;
}
