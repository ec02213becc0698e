// Segments a small picture and classifies a sentence: example UNET.safetensors HAN.safetensors
#include <tessera/session.h>

#include <cstdio>
#include <stdexcept>
#include <vector>

int main(int, char** argv) try {
  tessera::Session unet = tessera::Session::open(argv[1]);
  const std::vector<std::uint8_t> pixels(100 * 80, 128);
  const tessera::Segmentation mask = unet.segment({pixels.data(), 100, 80});
  std::printf("%zu pixels\n", mask.mask.size());

  tessera::Session han = tessera::Session::open(argv[2]);
  const tessera::Classification answer = han.classify("A splendid film. I loved it.");
  std::printf("%s\n", han.classes()[answer.label].name.c_str());
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
