#include "models/training/contact_sheet.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "kernels/error.h"

namespace tessera {
namespace {

constexpr std::int64_t kPictureGap = 4;  // pixels between pictures
constexpr Rgb kFrame = {255, 220, 0};
constexpr Rgb kUnknown = {128, 128, 128};

using Pixels = std::vector<std::uint8_t>;

// An RGB picture that others are put into.
class Canvas {
 public:
  Canvas(std::int64_t height, std::int64_t width)
      : height_(height), width_(width), bytes_(static_cast<std::size_t>(height * width * 3), 32) {}

  void put(const Image& picture, std::int64_t y0, std::int64_t x0) {
    const Pixels& from = std::get<Pixels>(picture.pixels);
    for (std::int64_t y = 0; y < picture.height; ++y) {
      std::copy_n(from.begin() + y * picture.width * 3, picture.width * 3,
                  bytes_.begin() + ((y0 + y) * width_ + x0) * 3);
    }
  }

  void frame(std::int64_t y0, std::int64_t x0, std::int64_t rows, std::int64_t columns) {
    for (std::int64_t x = x0; x < x0 + columns; ++x) {
      paint(y0, x);
      paint(y0 + rows - 1, x);
    }
    for (std::int64_t y = y0; y < y0 + rows; ++y) {
      paint(y, x0);
      paint(y, x0 + columns - 1);
    }
  }

  Image image() && { return {height_, width_, 3, std::move(bytes_)}; }

 private:
  void paint(std::int64_t y, std::int64_t x) {
    std::copy(kFrame.begin(), kFrame.end(), bytes_.begin() + (y * width_ + x) * 3);
  }

  std::int64_t height_, width_;
  Pixels bytes_;
};

// The middle of a tile's image, in 8 bits.
Image output_part(const Image& input, const TileShape& shape) {
  const Pixels& from = std::get<Pixels>(input.pixels);
  Pixels part;
  for (std::int64_t y = 0; y < shape.output_height; ++y) {
    const auto begin = from.begin() + ((y + shape.margin_y()) * input.width + shape.margin_x()) * 3;
    part.insert(part.end(), begin, begin + shape.output_width * 3);
  }
  return {shape.output_height, shape.output_width, 3, std::move(part)};
}

bool has_weight_map(std::span<const TrainingTile> tiles) {
  std::map<std::uint8_t, float> of_class;
  for (const TrainingTile& tile : tiles) {
    for (std::size_t i = 0; i < tile.classes.size(); ++i) {
      if (tile.weights[i] == 0) continue;
      const auto [known, is_new] = of_class.emplace(tile.classes[i], tile.weights[i]);
      if (!is_new && known->second != tile.weights[i]) return true;
    }
  }
  return false;
}

float greatest_weight(std::span<const TrainingTile> tiles) {
  float greatest = 0;
  for (const TrainingTile& tile : tiles) {
    for (const float weight : tile.weights) greatest = std::max(greatest, weight);
  }
  return greatest;
}

}  // namespace

Image weight_picture(std::span<const float> weights, std::int64_t height, std::int64_t width,
                     float greatest) {
  require(!weights.empty() && static_cast<std::int64_t>(weights.size()) == height * width,
          "weights: {} values, expected {} x {}", weights.size(), height, width);
  require(greatest > 0, "weights: the greatest is {}, expected more than 0", greatest);
  Pixels pixels;
  for (const float weight : weights) {
    const float heat = 3 * std::clamp(weight / greatest, 0.0f, 1.0f);  // red, then green, then blue
    for (int c = 0; c < 3; ++c) {
      const float part = std::clamp(heat - static_cast<float>(c), 0.0f, 1.0f);
      pixels.push_back(static_cast<std::uint8_t>(std::lround(255 * part)));
    }
  }
  return {height, width, 3, std::move(pixels)};
}

Image contact_sheet(std::span<const TrainingTile> tiles, const TileShape& shape,
                    std::int64_t channels, std::span<const Rgb> colours, int columns) {
  require(!tiles.empty() && columns >= 1, "contact sheet: {} tiles in {} columns", tiles.size(),
          columns);
  const bool with_weights = has_weight_map(tiles);
  const float greatest = greatest_weight(tiles);
  const std::int64_t across =
      std::min(static_cast<std::int64_t>(columns), static_cast<std::int64_t>(tiles.size()));
  const std::int64_t rows = (static_cast<std::int64_t>(tiles.size()) + across - 1) / across;
  const std::int64_t cell_width = shape.input_width +
                                  (with_weights ? 2 : 1) * (shape.output_width + kPictureGap) +
                                  2 * kPictureGap;
  const std::int64_t cell_height = shape.input_height + 2 * kPictureGap;
  Canvas canvas(rows * cell_height, across * cell_width);

  OverlayStyle style{.colours = {colours.begin(), colours.end()}};
  style.colours.push_back(kUnknown);
  const auto unknown = static_cast<std::uint8_t>(colours.size());
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    const TrainingTile& tile = tiles[i];
    require(static_cast<std::int64_t>(tile.image.size()) ==
                    shape.input_height * shape.input_width * channels &&
                static_cast<std::int64_t>(tile.classes.size()) ==
                    shape.output_height * shape.output_width &&
                tile.weights.size() == tile.classes.size(),
            "contact sheet: tile {} is not of the shape that was given", i);
    const auto n = static_cast<std::int64_t>(i);
    const std::int64_t y0 = n / across * cell_height + kPictureGap;
    const std::int64_t x0 = n % across * cell_width + kPictureGap;
    const Image image{shape.input_height, shape.input_width, channels, tile.image};
    // Painted with nothing, an overlay is the image in 8-bit RGB.
    const Image input =
        make_overlay(image, Pixels(static_cast<std::size_t>(image.height * image.width), 0),
                     {.colours = {Rgb{}}, .background = {0}});
    canvas.put(input, y0, x0);
    canvas.frame(y0 + shape.margin_y(), x0 + shape.margin_x(), shape.output_height,
                 shape.output_width);

    Pixels ids = tile.classes;
    for (std::size_t k = 0; k < ids.size(); ++k) {
      if (tile.weights[k] == 0) ids[k] = unknown;
    }
    const std::int64_t y1 = y0 + shape.margin_y(), x1 = x0 + shape.input_width + kPictureGap;
    canvas.put(make_overlay(output_part(input, shape), ids, style), y1, x1);
    if (with_weights) {
      canvas.put(weight_picture(tile.weights, shape.output_height, shape.output_width, greatest),
                 y1, x1 + shape.output_width + kPictureGap);
    }
  }
  return std::move(canvas).image();
}

}  // namespace tessera
