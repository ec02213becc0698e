// Trains a UNet on rings that are drawn here and segments another one; then a HAN on a few reviews:
// train FOLDER, which gets the models
#include <tessera/train.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kSide = 48;

// A ring of some radius, and the mask that says where it is.
struct Picture {
  std::vector<std::uint8_t> pixels, mask;  // (kSide, kSide)
};

Picture ring(double radius) {
  Picture picture;
  for (std::int64_t y = 0; y < kSide; ++y) {
    for (std::int64_t x = 0; x < kSide; ++x) {
      const bool inside = std::abs(std::hypot(y - 24, x - 24) - radius) < 4;
      picture.mask.push_back(inside ? 1 : 0);
      picture.pixels.push_back(
          static_cast<std::uint8_t>((inside ? 90 : 180) + (7 * x + 3 * y) % 20));
    }
  }
  return picture;
}

tessera::ImageView view_of(const std::vector<std::uint8_t>& pixels) {
  return {pixels.data(), kSide, kSide};
}

void train_unet(const std::string& folder) {
  std::vector<Picture> pictures;
  for (const double radius : {9, 11, 13, 15, 17}) pictures.push_back(ring(radius));

  tessera::UNetTrainOptions options;  // each field is an option of `tessera train unet`
  for (const Picture& one : pictures)
    options.source.pairs.push_back({view_of(one.pixels), view_of(one.mask)});
  options.classes = {"ground", "ring"};
  options.output = folder + "/rings.safetensors";
  options.depth = 1;
  options.base = 8;
  options.tile = 32;
  options.batch = 4;
  options.tiles = 16;
  options.epochs = 40;
  options.rate = 1e-2;
  options.device = "cpu";

  tessera::TrainEvents events;
  std::int64_t epochs = 0;
  events.epoch = [&](const tessera::TrainEvents::Epoch& epoch) {
    ++epochs;
    return epoch.validation->more.at("iou/ring") < 0.9;  // false ends it: this is good enough
  };
  const tessera::TrainResult result = tessera::train_unet(options, events);
  std::printf("%s after %lld epochs\n",
              result.end == tessera::TrainResult::End::kStopped ? "good enough" : "done",
              static_cast<long long>(epochs));

  const Picture other = ring(12);
  const tessera::Segmentation answer = result.open().segment(view_of(other.pixels));
  std::size_t right = 0;
  for (std::size_t i = 0; i < other.mask.size(); ++i) right += answer.mask[i] == other.mask[i];
  std::printf("ring: %.0f %% of the pixels are right\n",
              100.0 * static_cast<double>(right) / static_cast<double>(other.mask.size()));
}

void train_han(const std::string& folder) {
  tessera::HanTrainOptions options;
  for (int i = 0; i < 8; ++i) {
    options.documents.push_back(
        {"good", i % 2 == 0 ? "A lovely film. I liked it." : "Lovely, and well made."});
    options.documents.push_back(
        {"bad", i % 2 == 0 ? "A dull film. I left early." : "Dull, and badly made."});
  }
  options.output = folder + "/reviews.safetensors";
  options.units = 8;
  options.features = 8;
  options.attention = 8;
  options.batch = 4;
  options.epochs = 30;
  options.rate = 1e-2;
  options.device = "cpu";

  tessera::Session han = tessera::train_han(options).open();
  const tessera::Classification answer = han.classify("A lovely cast.");
  std::printf("review: %s\n", han.classes()[answer.label].name.c_str());
}

}  // namespace

int main(int, char** argv) try {
  train_unet(argv[1]);
  train_han(argv[1]);
} catch (const std::runtime_error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
