#include "models/image/pyramid.h"

#include <fmt/ranges.h>

#include <cmath>
#include <vector>

#include "kernels/error.h"

namespace tessera {

int64_t halvings(int64_t height, int64_t width, int64_t tile) {
  int64_t count = 0;
  for (; height > tile || width > tile; ++count) {
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
  return count;
}

std::string describe_levels(std::span<const PyramidLevel> levels) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < levels.size(); ++i)
    texts.push_back(fmt::format("{}: {} x {}", i, levels[i].height, levels[i].width));
  return fmt::format("{}", fmt::join(texts, ", "));
}

void require_one_picture(std::span<const PyramidLevel> levels) {
  const auto height = static_cast<double>(levels[0].height);
  const auto width = static_cast<double>(levels[0].width);
  for (size_t i = 1; i < levels.size(); ++i) {
    const PyramidLevel &level = levels[i], &before = levels[i - 1];
    const auto h = static_cast<double>(level.height), w = static_cast<double>(level.width);
    const bool smaller = level.height <= before.height && level.width <= before.width &&
                         (level.height < before.height || level.width < before.width);
    // A side that is rounded at each halving is off by less than 2, and the other one's error
    // counts in the ratio of the sides.
    const bool same_shape = std::abs(h * width - w * height) <= 2 * (width + height);
    require(smaller && same_shape,
            "the levels of its pyramid disagree: {}; level {} is no smaller picture of level 0. "
            "Leave out --level, or save the pyramid again",
            describe_levels(levels), i);
  }
}

}  // namespace tessera
