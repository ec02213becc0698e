// Any bytes at all are either an image or an Error; what is an image can be normalised, and has
// parts that can be read by themselves.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/error.h"
#include "models/image/image_io.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  constexpr int64_t kMaxFuzzSamples = 1 << 20;
  constexpr int64_t kMaxPages = 4;
  try {
    tessera::ImageReader reader({bytes, bytes + size}, "fuzz", kMaxFuzzSamples);
    for (int64_t page = 0; page < std::min(reader.page_count(), kMaxPages); ++page) {
      const tessera::Image image = reader.read(page);
      std::vector<float> values(static_cast<size_t>(image.samples()));
      tessera::normalise(image, {.channels = image.channels, .scale = tessera::Scale::kStandardize},
                         values);
      if (!reader.reads_parts()) continue;
      const int64_t y = image.height / 2, x = image.width / 3;
      const tessera::Image part = reader.read_part({y, x, image.height, image.width}, page);
      const bool same = std::visit(
          [&]<class T>(const std::vector<T>& pixels) {
            const int64_t first = (y * image.width + x) * image.channels;
            const T& there = std::get<std::vector<T>>(part.pixels)[0];
            return std::memcmp(&there, &pixels[static_cast<size_t>(first)], sizeof(T)) == 0;
          },
          image.pixels);
      if (!same) std::abort();
    }
  } catch (const tessera::Error&) {
  }
  return 0;
}
