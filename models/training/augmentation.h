// Tiles for training: cut out of labelled images with mirrored borders, and deformed as in the
// U-Net paper (Ronneberger et al. 2015, section 3.1), so that few images teach much.
//
// A tile is made by one map from its pixels to points of the image: turned, scaled, flipped,
// shifted and bent elastically. The image is sampled there bilinearly, classes and weights at the
// nearest pixel. Weights are NOT computed anew for the deformed masks: the paper computes them once
// for each true mask; turns, flips and shifts keep their distances exactly, and the elastic map
// changes them by less than the weights' own sigma; and so a pixel keeps class and weight together.
// Where the map leaves the image, image, classes and weights are mirrored alike.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "models/train.h"
#include "models/training/labelled_images.h"

namespace tessera {

nlohmann::json to_json(const Augmentation& augmentation);
// Absent keys keep their default. Throws Error for unknown keys and values out of range.
Augmentation augmentation_from_json(const nlohmann::json& object);

// Sizes in pixels. The output lies in the middle of the input: with valid convolutions it is
// smaller (572 and 388), with same padding equal.
struct TileShape {
  std::int64_t input_height = 0, input_width = 0;
  std::int64_t output_height = 0, output_width = 0;

  std::int64_t margin_y() const { return (input_height - output_height) / 2; }
  std::int64_t margin_x() const { return (input_width - output_width) / 2; }
};

struct TrainingTile {
  std::vector<float> image;           // (input_height, input_width, channels)
  std::vector<std::uint8_t> classes;  // (output_height, output_width)
  std::vector<float> weights;         // (output_height, output_width); 0 where ignored
};

// Displacements between the points of a grid, by cubic convolution (Keys 1981, a = -1/2): at the
// grid's points exactly theirs, linear where they are. The grid covers [0, size - 1].
class ElasticField {
 public:
  // `points`: (grid, grid), grid >= 2. Throws Error otherwise.
  ElasticField(std::vector<double> points, int grid, std::int64_t height, std::int64_t width);

  // Fills `row` (width) with the displacements of one row.
  void row(std::int64_t y, std::vector<double>& row) const;

 private:
  // Weights of the grid's points for each of `size` pixels: (size, grid).
  static std::vector<double> weights_along(int grid, std::int64_t size);

  std::vector<double> points_;
  std::size_t grid_;
  std::vector<double> along_y_, along_x_;
};

// An endless sequence of tiles. Tile n is a function of the images, the options, the seed and n
// alone, whichever thread makes it. Every image comes once in each `size()` tiles, in an order that
// is drawn anew each time; the place of the tile is drawn so that its output lies in the image.
class TileSampler {
 public:
  // The images of `which`; `images` must outlive the sampler. Throws Error for no images, an output
  // that is larger than the input, or a margin of half a pixel.
  TileSampler(LabelledImages& images, std::vector<std::size_t> which, TileShape shape,
              Augmentation augmentation, std::uint64_t seed);

  std::size_t size() const { return which_.size(); }
  const TileShape& shape() const { return shape_; }
  std::size_t image_of(std::uint64_t n) const;  // index into the images
  TrainingTile tile(std::uint64_t n) const;

 private:
  LabelledImages& images_;
  std::vector<std::size_t> which_;
  TileShape shape_;
  Augmentation augmentation_;
  std::uint64_t seed_;
};

// The tile whose output begins at row y, column x of the image, as it is: for validation. Pixels
// of the output that lie outside of the image, or before `from_y`, `from_x`, have weight 0.
struct TilePlace {
  std::int64_t y = 0, x = 0;
  std::int64_t from_y = 0, from_x = 0;
};
TrainingTile plain_tile(const LabelledImage& image, const TileShape& shape, const TilePlace& place);
// What plain_tile reads of an image of so many pixels.
ImageWindow part_of_tile(std::int64_t height, std::int64_t width, const TileShape& shape,
                         const TilePlace& place);

// Places whose outputs cover an image, each pixel with weight in exactly one of them.
std::vector<TilePlace> covering_places(std::int64_t height, std::int64_t width,
                                       const TileShape& shape);

}  // namespace tessera
