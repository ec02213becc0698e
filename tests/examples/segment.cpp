// Segments a picture that is drawn here, a bright ring on dark ground: segment UNET.safetensors
#include <tessera/session.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

int main(int, char** argv) try {
  constexpr std::int64_t kHeight = 80, kWidth = 100;
  std::vector<std::uint8_t> pixels;  // (height, width), grey
  for (std::int64_t y = 0; y < kHeight; ++y) {
    for (std::int64_t x = 0; x < kWidth; ++x)
      pixels.push_back(std::abs(std::hypot(y - 40, x - 50) - 25) < 3 ? 60 : 190);
  }

  tessera::Session unet = tessera::Session::open(argv[1]);
  const tessera::Segmentation result = unet.segment({pixels.data(), kHeight, kWidth});

  // The mask has a class for each pixel, in rows as the image has them.
  std::vector<std::size_t> counts(unet.classes().size());
  for (const std::uint8_t id : result.mask) ++counts[id];
  std::printf("%zu pixels on %s\n", result.mask.size(), unet.device().c_str());
  for (std::size_t id = 0; id < counts.size(); ++id)
    std::printf("%s: %zu\n", unet.classes()[id].name.c_str(), counts[id]);
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
