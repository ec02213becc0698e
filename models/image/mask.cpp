#include "models/image/mask.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <type_traits>
#include <utility>

#include "kernels/error.h"

namespace tessera {
namespace {

void require_mask_size(std::span<const uint8_t> class_ids, int64_t height, int64_t width) {
  require(height > 0 && width > 0 && static_cast<int64_t>(class_ids.size()) == height * width,
          "the mask has {} class ids, expected {} x {}", class_ids.size(), height, width);
}

void require_class_ids(std::span<const uint8_t> class_ids, int64_t class_count) {
  const auto bad = std::find_if(class_ids.begin(), class_ids.end(),
                                [&](uint8_t id) { return id >= class_count; });
  require(bad == class_ids.end(), "the mask has the class id {}, expected 0 to {}",
          bad == class_ids.end() ? 0 : *bad, class_count - 1);
}

uint8_t to_byte(float value) {
  return static_cast<uint8_t>(std::lround(std::clamp(value, 0.0f, 255.0f)));
}

// `hue` in turns; the channels run from `low` to `high`.
Rgb from_hue(double hue, double low, double high) {
  const auto channel = [&](double shift) {
    const double distance = std::abs(std::fmod(hue + shift, 1.0) * 6 - 3) - 1;
    return to_byte(static_cast<float>(low + (high - low) * std::clamp(distance, 0.0, 1.0)));
  };
  return {channel(0), channel(2.0 / 3), channel(1.0 / 3)};
}

// What is shown black, and how far above it white lies.
template <class T>
std::pair<float, float> shown_range(const std::vector<T>& samples) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    return {0.0f, 255.0f};
  } else {
    require(std::ranges::all_of(samples,
                                [](T sample) { return std::isfinite(static_cast<float>(sample)); }),
            "the image has values that are not finite, which no picture shows");
    const auto [low, high] = std::ranges::minmax_element(samples);
    const float range = static_cast<float>(*high) - static_cast<float>(*low);
    return {static_cast<float>(*low), range > 0 ? range : 1.0f};
  }
}

}  // namespace

std::vector<Rgb> default_colours(int64_t class_count) {
  constexpr Rgb kFirst[] = {{0, 0, 0},      {230, 159, 0}, {86, 180, 233}, {0, 158, 115},
                            {240, 228, 66}, {0, 114, 178}, {213, 94, 0},   {204, 121, 167}};
  std::vector<Rgb> colours(std::begin(kFirst), std::end(kFirst));
  constexpr double kGoldenAngle = 0.3819660112501051;  // in turns
  // Full, dark and pale in turn. Found by search, with the start of the hues: any two of the first
  // 24 colours differ by at least 80 in the sum over their channels.
  constexpr std::pair<double, double> kTones[] = {{0, 255}, {0, 140}, {130, 255}};
  constexpr double kFirstHue = 0.84;
  for (size_t i = colours.size(); static_cast<int64_t>(i) < class_count; ++i) {
    const auto [low, high] = kTones[i % std::size(kTones)];
    colours.push_back(from_hue(kFirstHue + kGoldenAngle * static_cast<double>(i), low, high));
  }
  colours.resize(static_cast<size_t>(class_count));
  return colours;
}

Image make_overlay(const Image& image, std::span<const uint8_t> class_ids,
                   const OverlayStyle& style) {
  const int64_t height = image.height;
  const int64_t width = image.width;
  require_mask_size(class_ids, height, width);
  require_class_ids(class_ids, static_cast<int64_t>(style.colours.size()));

  std::vector<bool> is_painted(style.colours.size(), true);
  for (const uint8_t id : style.background) {
    if (id < is_painted.size()) {
      is_painted[id] = false;
    }
  }
  std::vector<uint8_t> pixels(class_ids.size() * 3);
  const auto paint = [&](const auto& samples) {
    const auto [black, range] = shown_range(samples);
    const auto row = static_cast<size_t>(width);
    const size_t channels = static_cast<size_t>(image.channels);
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const auto i = static_cast<size_t>(y * width + x);
        const auto id = static_cast<size_t>(class_ids[i]);
        const bool is_boundary = (x > 0 && class_ids[i - 1] != class_ids[i]) ||
                                 (x + 1 < width && class_ids[i + 1] != class_ids[i]) ||
                                 (y > 0 && class_ids[i - row] != class_ids[i]) ||
                                 (y + 1 < height && class_ids[i + row] != class_ids[i]);
        const float alpha = !is_painted[id] ? 0.0f
                            : is_boundary   ? style.boundary_alpha
                                            : style.alpha;
        for (size_t c = 0; c < 3; ++c) {
          const size_t from = channels == 1 ? i : 3 * i + c;
          const float grey = (static_cast<float>(samples[from]) - black) / range;
          pixels[3 * i + c] =
              to_byte((1 - alpha) * 255 * grey + alpha * static_cast<float>(style.colours[id][c]));
        }
      }
    }
  };
  std::visit(paint, image.pixels);
  return {height, width, 3, std::move(pixels)};
}

}  // namespace tessera
