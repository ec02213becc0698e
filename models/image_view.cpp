#include "models/image_view.h"

#include <cstring>

#include "kernels/error.h"

namespace tessera {

namespace {

template <class T>
std::vector<T> copy_pixels(const ImageView& view) {
  const auto samples = static_cast<std::size_t>(view.height * view.width * view.channels);
  std::vector<T> pixels(samples);
  std::memcpy(pixels.data(), view.pixels, samples * sizeof(T));
  return pixels;
}

}  // namespace

Image to_image(const ImageView& view) {
  require(view.pixels != nullptr, "the image has no pixels");
  require(view.channels == 1 || view.channels == 3,
          "an image has 1 (grey) or 3 (RGB) channels, not {}", view.channels);
  require_readable_size(view.height, view.width, view.channels, kMaxSamples);
  Image image{view.height, view.width, view.channels, {}};
  switch (view.type) {
    case ImageView::Type::kU8:
      image.pixels = copy_pixels<std::uint8_t>(view);
      break;
    case ImageView::Type::kU16:
      image.pixels = copy_pixels<std::uint16_t>(view);
      break;
    case ImageView::Type::kU32:
      image.pixels = copy_pixels<std::uint32_t>(view);
      break;
    case ImageView::Type::kF32:
      image.pixels = copy_pixels<float>(view);
      break;
  }
  return image;
}

void require_one_size(std::span<const ImageView> images) {
  for (const ImageView& image : images)
    require(image.height == images[0].height && image.width == images[0].width,
            "expected images of one size; found {} x {} and {} x {}, which are calls of their own",
            images[0].height, images[0].width, image.height, image.width);
}

}  // namespace tessera
