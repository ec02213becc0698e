#include "models/training/augmentation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/files/json_fields.h"
#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/image/image_rows.h"

namespace tessera {
namespace {

// ---- what is drawn -----------------------------------------------------------------------------

// All that is random about one tile. Everything is drawn in any case, so that switching one
// deformation off leaves the others as they were.
struct Draw {
  double row_share = 0, column_share = 0;  // of the free places
  double turn = 0;                         // radians, without the quarters
  int quarters = 0;
  bool flip_horizontal = false, flip_vertical = false;
  double scale = 1;
  std::int64_t shift_y = 0, shift_x = 0;
  double brightness = 0, contrast = 1, gamma = 1;
  std::vector<double> elastic_y, elastic_x;  // (grid, grid); empty: none
};

double factor(Random& random, double amount) {
  return std::exp(random.uniform(-1, 1) * std::log1p(amount));
}

Draw draw(const Augmentation& options, std::uint64_t seed, std::uint64_t n) {
  Random random(seed, stream_of("tile", n));
  Draw result;
  result.row_share = random.uniform();
  result.column_share = random.uniform();
  result.turn = random.uniform(-1, 1) * options.rotation * std::numbers::pi / 180;
  const auto quarters = static_cast<int>(random.below(4));
  result.quarters = options.quarter_turns ? quarters : 0;
  result.flip_horizontal = random.chance(0.5) && options.flip_horizontal;
  result.flip_vertical = random.chance(0.5) && options.flip_vertical;
  result.scale = factor(random, options.scale);
  result.shift_y = std::llround(random.uniform(-1, 1) * options.shift);
  result.shift_x = std::llround(random.uniform(-1, 1) * options.shift);
  result.brightness = random.uniform(-1, 1) * options.brightness;
  result.contrast = 1 + random.uniform(-1, 1) * options.contrast;
  result.gamma = factor(random, options.gamma);
  if (options.elastic_sigma > 0) {
    for (int i = 0; i < options.elastic_grid * options.elastic_grid; ++i) {
      result.elastic_y.push_back(random.normal() * options.elastic_sigma);
      result.elastic_x.push_back(random.normal() * options.elastic_sigma);
    }
  }
  return result;
}

// ---- where each pixel of a tile comes from -----------------------------------------------------

class TileMap {
 public:
  // Of an image of so many pixels.
  TileMap(std::int64_t height, std::int64_t width, const TileShape& shape, const Draw& draw,
          int grid)
      : shape_(shape) {
    // The middle of the tile in the image where its output begins at a whole pixel inside.
    const auto origin = [](std::int64_t size, std::int64_t output, double share) {
      const std::int64_t free = size - output;
      if (free <= 0) return free / 2;
      return std::min(static_cast<std::int64_t>(share * static_cast<double>(free + 1)), free);
    };
    middle_y_ = static_cast<double>(shape.input_height - 1) / 2;
    middle_x_ = static_cast<double>(shape.input_width - 1) / 2;
    source_y_ =
        middle_y_ + static_cast<double>(origin(height, shape.output_height, draw.row_share) -
                                        shape.margin_y() + draw.shift_y);
    source_x_ =
        middle_x_ + static_cast<double>(origin(width, shape.output_width, draw.column_share) -
                                        shape.margin_x() + draw.shift_x);
    // Quarters from a table: cos(pi / 2) is not 0 in floating point.
    constexpr int kCosine[] = {1, 0, -1, 0}, kSine[] = {0, 1, 0, -1};
    const double c = std::cos(draw.turn), s = std::sin(draw.turn);
    const double quarter_c = kCosine[draw.quarters], quarter_s = kSine[draw.quarters];
    const double cosine = (c * quarter_c - s * quarter_s) / draw.scale;
    const double sine = (s * quarter_c + c * quarter_s) / draw.scale;
    const double flip_y = draw.flip_vertical ? -1 : 1, flip_x = draw.flip_horizontal ? -1 : 1;
    yy_ = cosine * flip_y;
    yx_ = sine * flip_x;
    xy_ = -sine * flip_y;
    xx_ = cosine * flip_x;
    if (draw.elastic_y.empty()) return;
    elastic_.emplace_back(draw.elastic_y, grid, shape.input_height, shape.input_width);
    elastic_.emplace_back(draw.elastic_x, grid, shape.input_height, shape.input_width);
  }

  // The points of the image for row `v` of the input.
  void row(std::int64_t v, std::vector<double>& ys, std::vector<double>& xs) const {
    ys.assign(static_cast<std::size_t>(shape_.input_width), 0.0);
    xs.assign(static_cast<std::size_t>(shape_.input_width), 0.0);
    if (!elastic_.empty()) {
      elastic_[0].row(v, ys);
      elastic_[1].row(v, xs);
    }
    const double dy = static_cast<double>(v) - middle_y_;
    for (std::size_t u = 0; u < ys.size(); ++u) {
      const double dx = static_cast<double>(u) - middle_x_;
      ys[u] += source_y_ + yy_ * dy + yx_ * dx;
      xs[u] += source_x_ + xy_ * dy + xx_ * dx;
    }
  }

 private:
  const TileShape& shape_;
  double middle_y_ = 0, middle_x_ = 0;  // of the tile, in itself
  double source_y_ = 0, source_x_ = 0;  // the same point in the image
  double yy_ = 1, yx_ = 0, xy_ = 0, xx_ = 1;
  std::vector<ElasticField> elastic_;  // none, or y and x
};

// One channel after the other between the four pixels around (y, x).
void sample_bilinear(const LabelledImage& image, double y, double x, float* to) {
  const double floor_y = std::floor(y), floor_x = std::floor(x);
  const auto y0 = static_cast<std::int64_t>(floor_y), x0 = static_cast<std::int64_t>(floor_x);
  const auto fy = static_cast<float>(y - floor_y), fx = static_cast<float>(x - floor_x);
  std::int64_t rows[2] = {y0, y0 + 1}, columns[2] = {x0, x0 + 1};
  if (y0 < 0 || x0 < 0 || y0 + 1 >= image.height || x0 + 1 >= image.width) {
    for (std::int64_t& row : rows) row = mirror_index(row, image.height);
    for (std::int64_t& column : columns) column = mirror_index(column, image.width);
  }
  const auto at = [&](int row, int column) {
    return image.pixels.data() + image.at(rows[row], columns[column]) * image.channels;
  };
  const float *upper_left = at(0, 0), *upper_right = at(0, 1), *lower_left = at(1, 0),
              *lower_right = at(1, 1);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const float upper = upper_left[c] + fx * (upper_right[c] - upper_left[c]);
    const float lower = lower_left[c] + fx * (lower_right[c] - lower_left[c]);
    to[c] = upper + fy * (lower - upper);
  }
}

std::size_t nearest_pixel(const LabelledImage& image, double y, double x) {
  const std::int64_t row = mirror_index(std::llround(y), image.height);
  const std::int64_t column = mirror_index(std::llround(x), image.width);
  return static_cast<std::size_t>(image.at(row, column));
}

// What sampling a tile reads of an image of so many pixels.
ImageWindow sampled_part(const TileMap& map, const TileShape& shape, std::int64_t height,
                         std::int64_t width) {
  ImageWindow part{height, width, 0, 0};
  std::vector<double> ys, xs;
  for (std::int64_t v = 0; v < shape.input_height; ++v) {
    map.row(v, ys, xs);
    for (std::size_t u = 0; u < ys.size(); ++u) {
      for (const int next : {0, 1}) {  // between which pixels a point lies
        const std::int64_t y =
            mirror_index(static_cast<std::int64_t>(std::floor(ys[u])) + next, height);
        const std::int64_t x =
            mirror_index(static_cast<std::int64_t>(std::floor(xs[u])) + next, width);
        part = {std::min(part.y0, y), std::min(part.x0, x), std::max(part.y1, y + 1),
                std::max(part.x1, x + 1)};
      }
    }
  }
  return part;
}

// The hull of what [begin, end) mirrors to.
std::pair<std::int64_t, std::int64_t> mirrored_hull(std::int64_t begin, std::int64_t end,
                                                    std::int64_t size) {
  std::int64_t first = size, last = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = mirror_index(i, size);
    first = std::min(first, at);
    last = std::max(last, at);
  }
  return {first, last + 1};
}

// ---- grey values -------------------------------------------------------------------------------

void change_grey_values(std::vector<float>& pixels, const LabelledImage& image, const Draw& draw,
                        double noise, const Random& random) {
  const float low = image.low, range = image.high - image.low;
  if (!(range > 0)) return;
  if (draw.gamma != 1) {
    for (float& value : pixels) {
      const float share = std::clamp((value - low) / range, 0.0f, 1.0f);
      value = low + range * std::pow(share, static_cast<float>(draw.gamma));
    }
  }
  if (draw.contrast != 1 || draw.brightness != 0) {
    double sum = 0;
    for (const float value : pixels) sum += value;
    const auto mean = static_cast<float>(sum / static_cast<double>(pixels.size()));
    const auto contrast = static_cast<float>(draw.contrast);
    const auto added = static_cast<float>(draw.brightness) * range;
    for (float& value : pixels) value = mean + contrast * (value - mean) + added;
  }
  if (noise > 0) {
    const auto deviation = static_cast<float>(noise) * range;
    for (std::size_t i = 0; i < pixels.size(); i += 2) {
      const auto [first, second] = random.normals_at(i / 2);
      pixels[i] += deviation * static_cast<float>(first);
      if (i + 1 < pixels.size()) pixels[i + 1] += deviation * static_cast<float>(second);
    }
  }
}

void require_valid(const TileShape& shape) {
  const auto fits = [](std::int64_t input, std::int64_t output) {
    return output > 0 && output <= input && (input - output) % 2 == 0;
  };
  require(
      fits(shape.input_height, shape.output_height) && fits(shape.input_width, shape.output_width),
      "tiles of {} x {} input and {} x {} output pixels, expected an output in the middle of "
      "the input",
      shape.input_height, shape.input_width, shape.output_height, shape.output_width);
}

void require_valid(const Augmentation& a) {
  const auto amount = [](const char* name, double value, double most) {
    require(value >= 0 && value <= most, "augmentation.{}: expected 0 to {}, found {}", name, most,
            value);
  };
  constexpr double kPixels = 1e4;
  amount("elastic_sigma", a.elastic_sigma, kPixels);
  amount("rotation", a.rotation, 180);
  amount("shift", a.shift, kPixels);
  amount("scale", a.scale, 10);
  amount("brightness", a.brightness, 10);
  amount("contrast", a.contrast, 1);
  amount("gamma", a.gamma, 10);
  amount("noise", a.noise, 10);
  require(a.elastic_grid >= 2 && a.elastic_grid <= 100,
          "augmentation.elastic_grid: expected 2 to 100, found {}", a.elastic_grid);
}

}  // namespace

// ---- options -----------------------------------------------------------------------------------

nlohmann::json to_json(const Augmentation& a) {
  return {{"elastic_sigma", a.elastic_sigma},
          {"elastic_grid", a.elastic_grid},
          {"rotation", a.rotation},
          {"quarter_turns", a.quarter_turns},
          {"flip_horizontal", a.flip_horizontal},
          {"flip_vertical", a.flip_vertical},
          {"shift", a.shift},
          {"scale", a.scale},
          {"brightness", a.brightness},
          {"contrast", a.contrast},
          {"gamma", a.gamma},
          {"noise", a.noise}};
}

Augmentation augmentation_from_json(const nlohmann::json& object) {
  Augmentation a;
  JsonFields fields(object, "augmentation");
  fields.read("elastic_sigma", a.elastic_sigma);
  fields.read("elastic_grid", a.elastic_grid, 2, 100);
  fields.read("rotation", a.rotation);
  fields.read("quarter_turns", a.quarter_turns);
  fields.read("flip_horizontal", a.flip_horizontal);
  fields.read("flip_vertical", a.flip_vertical);
  fields.read("shift", a.shift);
  fields.read("scale", a.scale);
  fields.read("brightness", a.brightness);
  fields.read("contrast", a.contrast);
  fields.read("gamma", a.gamma);
  fields.read("noise", a.noise);
  fields.refuse_unknown();
  require_valid(a);
  return a;
}

// ---- the elastic field -------------------------------------------------------------------------

std::vector<double> ElasticField::weights_along(int grid, std::int64_t size) {
  std::vector<double> weights(static_cast<std::size_t>(size * grid), 0.0);
  for (std::int64_t i = 0; i < size; ++i) {
    const double at =
        size == 1 ? 0 : static_cast<double>(i) * (grid - 1) / static_cast<double>(size - 1);
    const int cell = std::min(static_cast<int>(at), grid - 2);
    const double t = at - cell;
    const double cubic[4] = {((-0.5 * t + 1) * t - 0.5) * t, (1.5 * t - 2.5) * t * t + 1,
                             ((-1.5 * t + 2) * t + 0.5) * t, (0.5 * t - 0.5) * t * t};
    const auto add = [&](int point, double weight) {
      weights[static_cast<std::size_t>(i * grid + point)] += weight;
    };
    for (int k = 0; k < 4; ++k) {
      const int point = cell - 1 + k;
      // A point beyond the grid's end continues the line of the last two.
      if (point < 0) {
        add(0, 2 * cubic[k]);
        add(1, -cubic[k]);
      } else if (point >= grid) {
        add(grid - 1, 2 * cubic[k]);
        add(grid - 2, -cubic[k]);
      } else {
        add(point, cubic[k]);
      }
    }
  }
  return weights;
}

ElasticField::ElasticField(std::vector<double> points, int grid, std::int64_t height,
                           std::int64_t width)
    : points_(std::move(points)), grid_(static_cast<std::size_t>(grid)) {
  require(grid >= 2 && points_.size() == grid_ * grid_,
          "elastic field: {} displacements for a grid of {}, expected 2 x 2 or more",
          points_.size(), grid);
  along_y_ = weights_along(grid, height);
  along_x_ = weights_along(grid, width);
}

void ElasticField::row(std::int64_t y, std::vector<double>& row) const {
  std::vector<double> columns(grid_, 0.0);
  for (std::size_t i = 0; i < grid_; ++i) {
    const double weight = along_y_[static_cast<std::size_t>(y) * grid_ + i];
    for (std::size_t j = 0; j < grid_; ++j) columns[j] += weight * points_[i * grid_ + j];
  }
  row.resize(along_x_.size() / grid_);
  for (std::size_t x = 0; x < row.size(); ++x) {
    double sum = 0;
    for (std::size_t j = 0; j < grid_; ++j) sum += along_x_[x * grid_ + j] * columns[j];
    row[x] = sum;
  }
}

// ---- tiles -------------------------------------------------------------------------------------

TileSampler::TileSampler(LabelledImages& images, std::vector<std::size_t> which, TileShape shape,
                         Augmentation augmentation, std::uint64_t seed)
    : images_(images),
      which_(std::move(which)),
      shape_(shape),
      augmentation_(augmentation),
      seed_(seed) {
  require(!which_.empty(), "no images to take tiles from");
  require_valid(shape);
  require_valid(augmentation);
}

std::size_t TileSampler::image_of(std::uint64_t n) const {
  std::vector<std::size_t> order = which_;
  Random(seed_, stream_of("order", n / order.size())).shuffle(order);
  return order[n % order.size()];
}

TrainingTile TileSampler::tile(std::uint64_t n) const {
  const std::size_t index = image_of(n);
  const Draw drawn = draw(augmentation_, seed_, n);
  LabelledSlide* const slide = images_.slide(index);
  std::shared_ptr<const LabelledImage> image;
  if (slide == nullptr) image = images_.load(index);
  const std::int64_t height = slide != nullptr ? slide->height() : image->height;
  const std::int64_t width = slide != nullptr ? slide->width() : image->width;
  const TileMap map(height, width, shape_, drawn, augmentation_.elastic_grid);
  if (slide != nullptr)
    image = std::make_shared<const LabelledImage>(
        slide->part(sampled_part(map, shape_, height, width)));
  TrainingTile tile;
  tile.image.resize(
      static_cast<std::size_t>(shape_.input_height * shape_.input_width * image->channels));
  tile.classes.reserve(static_cast<std::size_t>(shape_.output_height * shape_.output_width));
  tile.weights.reserve(tile.classes.capacity());
  std::vector<double> ys, xs;
  float* to = tile.image.data();
  for (std::int64_t v = 0; v < shape_.input_height; ++v) {
    map.row(v, ys, xs);
    for (std::size_t u = 0; u < ys.size(); ++u, to += image->channels)
      sample_bilinear(*image, ys[u], xs[u], to);
    const std::int64_t y = v - shape_.margin_y();
    if (y < 0 || y >= shape_.output_height) continue;
    for (std::int64_t x = 0; x < shape_.output_width; ++x) {
      const auto u = static_cast<std::size_t>(x + shape_.margin_x());
      const std::size_t from = nearest_pixel(*image, ys[u], xs[u]);
      tile.classes.push_back(image->classes[from]);
      tile.weights.push_back(image->weights[from]);
    }
  }
  change_grey_values(tile.image, *image, drawn, augmentation_.noise,
                     Random(seed_, stream_of("noise", n)));
  return tile;
}

TrainingTile plain_tile(const LabelledImage& image, const TileShape& shape,
                        const TilePlace& place) {
  require_valid(shape);
  TrainingTile tile;
  tile.image.resize(
      static_cast<std::size_t>(shape.input_height * shape.input_width * image.channels));
  const std::int64_t y0 = place.y - shape.margin_y(), x0 = place.x - shape.margin_x();
  const std::int64_t row_floats = shape.input_width * image.channels;
  for (std::int64_t v = 0; v < shape.input_height; ++v) {
    const std::int64_t y = mirror_index(y0 + v, image.height);
    mirror_row(image.pixels.data() + image.at(y, image.part.x0) * image.channels, image.part.x0,
               image.width, image.channels, x0, x0 + shape.input_width,
               tile.image.data() + v * row_floats);
  }
  for (std::int64_t y = place.y; y < place.y + shape.output_height; ++y) {
    for (std::int64_t x = place.x; x < place.x + shape.output_width; ++x) {
      const bool counts = y >= std::max<std::int64_t>(place.from_y, 0) && y < image.height &&
                          x >= std::max<std::int64_t>(place.from_x, 0) && x < image.width;
      const auto from = static_cast<std::size_t>(
          image.at(mirror_index(y, image.height), mirror_index(x, image.width)));
      tile.classes.push_back(image.classes[from]);
      tile.weights.push_back(counts ? image.weights[from] : 0.0f);
    }
  }
  return tile;
}

ImageWindow part_of_tile(std::int64_t height, std::int64_t width, const TileShape& shape,
                         const TilePlace& place) {
  // The input, and with it the output in its middle.
  const std::int64_t y0 = place.y - shape.margin_y(), x0 = place.x - shape.margin_x();
  const auto [top, bottom] = mirrored_hull(y0, y0 + shape.input_height, height);
  const auto [left, right] = mirrored_hull(x0, x0 + shape.input_width, width);
  return {top, left, bottom, right};
}

std::vector<TilePlace> covering_places(std::int64_t height, std::int64_t width,
                                       const TileShape& shape) {
  require_valid(shape);
  require(height > 0 && width > 0, "tiles of an image of {} x {} pixels", height, width);
  struct Piece {
    std::int64_t begin, from;
  };
  // The last piece ends with the image where the image is large enough for that.
  const auto pieces = [](std::int64_t size, std::int64_t output) {
    std::vector<Piece> result;
    for (std::int64_t from = 0; from < size; from += output)
      result.push_back({std::max<std::int64_t>(std::min(from, size - output), 0), from});
    return result;
  };
  std::vector<TilePlace> places;
  for (const Piece& row : pieces(height, shape.output_height)) {
    for (const Piece& column : pieces(width, shape.output_width))
      places.push_back({row.begin, column.begin, row.from, column.from});
  }
  return places;
}

}  // namespace tessera
