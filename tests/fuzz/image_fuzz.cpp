// Any bytes at all are either an image or an Error; and what is an image can be normalised.
#include <algorithm>

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
    }
  } catch (const tessera::Error&) {
  }
  return 0;
}
