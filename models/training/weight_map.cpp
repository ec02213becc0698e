#include "models/training/weight_map.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/error.h"

namespace tessera {
namespace {

struct Box {
  std::uint32_t id;
  std::int64_t y0, x0, y1, x1;  // the end is outside
};

// Of every object, in the order of their ids.
std::vector<Box> bounding_boxes(std::span<const std::uint32_t> objects, std::int64_t height,
                                std::int64_t width) {
  std::vector<Box> runs;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const std::uint32_t id = objects[static_cast<std::size_t>(y * width + x)];
      if (id == 0) continue;
      if (x > 0 && !runs.empty() && runs.back().id == id && runs.back().y0 == y &&
          runs.back().x1 == x) {
        ++runs.back().x1;
      } else {
        runs.push_back({id, y, x, y + 1, x + 1});
      }
    }
  }
  std::ranges::stable_sort(runs, {}, &Box::id);
  std::vector<Box> boxes;
  for (const Box& run : runs) {
    if (boxes.empty() || boxes.back().id != run.id) {
      boxes.push_back(run);
      continue;
    }
    Box& box = boxes.back();
    box = {box.id, std::min(box.y0, run.y0), std::min(box.x0, run.x0), std::max(box.y1, run.y1),
           std::max(box.x1, run.x1)};
  }
  return boxes;
}

// Squared distances to one object within a window.
class DistanceTransform {
 public:
  // Calls visit(x, squared distance) for every pixel of every row; `row` says which row comes.
  template <class Row, class Visit>
  void run(std::span<const std::uint32_t> objects, std::int64_t width, const Box& window,
           const Row& row, const Visit& visit) {
    const std::int64_t rows = window.y1 - window.y0, columns = window.x1 - window.x0;
    find_vertical(objects, width, window);
    for (std::int64_t y = 0; y < rows; ++y) {
      row(window.y0 + y);
      find_envelope(y, columns);
      std::size_t k = 0;
      for (std::int64_t x = 0; x < columns; ++x) {
        while (k + 1 < parabolas_.size() && parabolas_[k + 1].from <= x) ++k;
        if (parabolas_.empty()) break;
        const std::int64_t dx = x - parabolas_[k].x;
        visit(window.x0 + x, dx * dx + parabolas_[k].height);
      }
    }
  }

 private:
  static constexpr std::int64_t kNowhere = -1;

  // The lowest parabola (q - x)^2 + height from q = `from` on.
  struct Parabola {
    std::int64_t x, height, from;
  };

  // Distance from each pixel to the object's nearest one in the same column.
  void find_vertical(std::span<const std::uint32_t> objects, std::int64_t width,
                     const Box& window) {
    const std::int64_t rows = window.y1 - window.y0, columns = window.x1 - window.x0;
    vertical_.assign(static_cast<std::size_t>(rows * columns), kNowhere);
    const auto sweep = [&](std::int64_t begin, std::int64_t end, std::int64_t step) {
      for (std::int64_t y = begin; y != end; y += step) {
        for (std::int64_t x = 0; x < columns; ++x) {
          std::int64_t& here = vertical_[static_cast<std::size_t>(y * columns + x)];
          if (objects[static_cast<std::size_t>((window.y0 + y) * width + window.x0 + x)] ==
              window.id) {
            here = 0;
          } else if (y != begin) {
            const std::int64_t before =
                vertical_[static_cast<std::size_t>((y - step) * columns + x)];
            if (before != kNowhere && (here == kNowhere || before + 1 < here)) here = before + 1;
          }
        }
      }
    };
    sweep(0, rows, 1);
    sweep(rows - 1, -1, -1);
  }

  void find_envelope(std::int64_t y, std::int64_t columns) {
    parabolas_.clear();
    for (std::int64_t x = 0; x < columns; ++x) {
      const std::int64_t distance = vertical_[static_cast<std::size_t>(y * columns + x)];
      if (distance == kNowhere) continue;
      const std::int64_t height = distance * distance;
      std::int64_t from = 0;
      while (!parabolas_.empty()) {
        // From which whole q on the new parabola is not above the last one.
        const Parabola& last = parabolas_.back();
        const std::int64_t numerator = height + x * x - last.height - last.x * last.x;
        const std::int64_t denominator = 2 * (x - last.x);
        from = numerator <= 0 ? 0 : (numerator + denominator - 1) / denominator;
        if (from > last.from) break;
        parabolas_.pop_back();
        from = 0;
      }
      if (from < columns) parabolas_.push_back({x, height, from});
    }
  }

  std::vector<std::int64_t> vertical_;
  std::vector<Parabola> parabolas_;
};

}  // namespace

NearestObjects nearest_objects(std::span<const std::uint32_t> objects, std::int64_t height,
                               std::int64_t width, std::int64_t radius) {
  require(height > 0 && width > 0 && static_cast<std::int64_t>(objects.size()) == height * width,
          "distances: {} object ids, expected {} x {}", objects.size(), height, width);
  NearestObjects nearest;
  nearest.first.assign(objects.size(), NearestObjects::kFar);
  nearest.second.assign(objects.size(), NearestObjects::kFar);
  DistanceTransform transform;
  for (const Box& box : bounding_boxes(objects, height, width)) {
    const Box window{box.id, std::max<std::int64_t>(box.y0 - radius, 0),
                     std::max<std::int64_t>(box.x0 - radius, 0), std::min(box.y1 + radius, height),
                     std::min(box.x1 + radius, width)};
    std::int64_t row = 0;
    const auto visit = [&](std::int64_t x, std::int64_t squared) {
      if (squared > radius * radius) return;
      const auto i = static_cast<std::size_t>(row + x);
      if (objects[i] != 0) return;
      if (squared < nearest.first[i]) {
        nearest.second[i] = std::exchange(nearest.first[i], squared);
      } else {
        nearest.second[i] = std::min(nearest.second[i], squared);
      }
    };
    transform.run(
        objects, width, window, [&](std::int64_t y) { row = y * width; }, visit);
  }
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (objects[i] != 0) nearest.first[i] = nearest.second[i] = 0;
  }
  return nearest;
}

std::int64_t reach_of(const BorderWeight& border) {
  constexpr double kNegligible = 1e-7;
  constexpr double kMost = 1e9;  // beyond any image
  return static_cast<std::int64_t>(
      std::ceil(std::min(border.sigma * std::sqrt(-2 * std::log(kNegligible)), kMost)));
}

std::vector<float> border_weights(std::span<const std::uint32_t> objects, std::int64_t height,
                                  std::int64_t width, const BorderWeight& border) {
  require(
      border.w0 >= 0 && std::isfinite(border.w0) && border.sigma > 0 && std::isfinite(border.sigma),
      "border weights: w0 {} and sigma {}, expected w0 of at least 0 and sigma above 0", border.w0,
      border.sigma);
  const std::int64_t radius = std::min(reach_of(border), height + width);
  const NearestObjects nearest = nearest_objects(objects, height, width, radius);
  std::vector<float> weights(objects.size(), 0.0f);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (objects[i] != 0 || nearest.second[i] == NearestObjects::kFar) continue;
    const double sum = std::sqrt(static_cast<double>(nearest.first[i])) +
                       std::sqrt(static_cast<double>(nearest.second[i]));
    weights[i] =
        static_cast<float>(border.w0 * std::exp(-sum * sum / (2 * border.sigma * border.sigma)));
  }
  return weights;
}

std::vector<float> balanced_class_weights(std::span<const std::int64_t> class_pixels) {
  const auto total = static_cast<double>(std::reduce(class_pixels.begin(), class_pixels.end()));
  std::vector<float> weights;
  for (const std::int64_t pixels : class_pixels) {
    weights.push_back(pixels == 0
                          ? 0.0f
                          : static_cast<float>(total / (static_cast<double>(pixels) *
                                                        static_cast<double>(class_pixels.size()))));
  }
  return weights;
}

}  // namespace tessera
