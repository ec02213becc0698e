// Weights of pixels: the map of borders between objects, and classes that balance.
#include "models/training/weight_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <map>

#include "engine/train/random.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Ids = std::vector<std::uint32_t>;

// Discs with the ids 1, 2 .. in rows, `gap` pixels apart; the last is cut off by the border.
Ids discs(std::int64_t height, std::int64_t width, std::int64_t radius, std::int64_t gap) {
  Ids ids(static_cast<std::size_t>(height * width), 0);
  std::uint32_t next = 1;
  const std::int64_t step = 2 * radius + 1 + gap;
  for (std::int64_t cy = radius; cy < height; cy += step) {
    for (std::int64_t cx = radius; cx < width; cx += step, ++next) {
      for (std::int64_t y = cy - radius; y <= std::min(cy + radius, height - 1); ++y) {
        for (std::int64_t x = cx - radius; x <= std::min(cx + radius, width - 1); ++x) {
          if ((y - cy) * (y - cy) + (x - cx) * (x - cx) <= radius * radius)
            ids[static_cast<std::size_t>(y * width + x)] = next;
        }
      }
    }
  }
  return ids;
}

TEST(WeightMap, DistancesEqualBruteForce) {
  Random random(4);
  for (int round = 0; round < 30; ++round) {
    const std::int64_t height = 1 + random.below(24), width = 1 + random.below(24);
    Ids ids(static_cast<std::size_t>(height * width), 0);
    for (std::uint32_t& id : ids)
      id = random.chance(0.08) ? static_cast<std::uint32_t>(1 + random.below(5)) * 1000 : 0;
    const std::int64_t radius = round % 2 == 0 ? 100 : 5;
    const NearestObjects nearest = nearest_objects(ids, height, width, radius);
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        std::map<std::uint32_t, std::int64_t> least;
        for (std::int64_t v = 0; v < height; ++v) {
          for (std::int64_t u = 0; u < width; ++u) {
            const std::uint32_t id = ids[static_cast<std::size_t>(v * width + u)];
            const std::int64_t squared = (v - y) * (v - y) + (u - x) * (u - x);
            if (id == 0 || squared > radius * radius) continue;
            const auto [known, is_new] = least.emplace(id, squared);
            if (!is_new) known->second = std::min(known->second, squared);
          }
        }
        std::vector<std::int64_t> sorted;
        for (const auto& [id, squared] : least) sorted.push_back(squared);
        sorted.resize(sorted.size() + 2, NearestObjects::kFar);
        std::ranges::sort(sorted);
        const auto i = static_cast<std::size_t>(y * width + x);
        ASSERT_EQ(nearest.first[i], ids[i] != 0 ? 0 : sorted[0]) << y << ' ' << x;
        ASSERT_EQ(nearest.second[i], ids[i] != 0 ? 0 : sorted[1]) << y << ' ' << x;
      }
    }
  }
}

TEST(WeightMap, FollowsThePapersFormula) {
  const Ids ids{1, 0, 0, 2, 0, 0, 0};  // gaps of two pixels, and the far side of one cell
  const auto weights = border_weights(ids, 1, 7, {});
  const float expected = static_cast<float>(10 * std::exp(-9.0 / 50));
  EXPECT_EQ(weights[0], 0);
  EXPECT_FLOAT_EQ(weights[1], expected);
  EXPECT_FLOAT_EQ(weights[2], expected);
  EXPECT_EQ(weights[3], 0);
  EXPECT_FLOAT_EQ(weights[4], static_cast<float>(10 * std::exp(-25.0 / 50)));   // 1 + 4
  EXPECT_EQ(border_weights(Ids{1, 0, 0}, 1, 3, {}), std::vector<float>(3, 0));  // one cell only
  EXPECT_FLOAT_EQ(border_weights(ids, 1, 7, {.w0 = 3, .sigma = 1})[1],
                  static_cast<float>(3 * std::exp(-4.5)));
  EXPECT_THROW(border_weights(ids, 1, 7, {.sigma = 0}), Error);
  EXPECT_THROW(border_weights(ids, 2, 7, {}), Error);
}

TEST(WeightMap, ClassesBalance) {
  const std::vector<std::int64_t> pixels{900, 100, 0};
  const auto weights = balanced_class_weights(pixels);
  EXPECT_FLOAT_EQ(weights[0] * 900, weights[1] * 100);
  EXPECT_FLOAT_EQ(weights[0], 1000.0f / 2700);
  EXPECT_EQ(weights[2], 0);
}

TEST(WeightMap, IsQuickWithManyCells) {
  const Ids ids = discs(512, 512, 20, 2);
  EXPECT_GT(*std::ranges::max_element(ids), 100U);
  const auto begin = std::chrono::steady_clock::now();
  const auto weights = border_weights(ids, 512, 512, {});
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  RecordProperty("milliseconds", static_cast<int>(1000 * seconds));
  EXPECT_GT(*std::ranges::max_element(weights), 7);
  EXPECT_LT(seconds, 5) << "0.5 s on an idle machine";  // machines of tests are busy
}

}  // namespace
}  // namespace tessera
