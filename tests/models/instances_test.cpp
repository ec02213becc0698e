// Connected components against a flood fill.
#include "models/image/instances.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "kernels/error.h"
#include "models/image/image_io.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using Ids = std::vector<uint8_t>;

// Labels by flooding from each unlabelled foreground pixel in reading order; the components below
// the least area are taken back.
std::vector<uint16_t> flood_fill(const Ids& ids, int64_t height, int64_t width,
                                 const InstanceOptions& options) {
  std::vector<uint16_t> labels(ids.size(), 0);
  std::set<int64_t> too_small;
  uint16_t next = 1;
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  for (int64_t start = 0; start < height * width; ++start) {
    const bool background =
        std::count(options.background.begin(), options.background.end(), ids[at(start)]) > 0;
    if (background || labels[at(start)] != 0 || too_small.contains(start)) continue;
    std::vector<int64_t> component = {start};
    labels[at(start)] = next;
    for (size_t k = 0; k < component.size(); ++k) {
      const int64_t y = component[k] / width;
      const int64_t x = component[k] % width;
      for (int64_t dy = -1; dy <= 1; ++dy) {
        for (int64_t dx = -1; dx <= 1; ++dx) {
          if (options.connectivity == 4 && dy != 0 && dx != 0) continue;
          if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue;
          const int64_t neighbour = (y + dy) * width + x + dx;
          if (labels[at(neighbour)] != 0 || ids[at(neighbour)] != ids[at(start)]) continue;
          labels[at(neighbour)] = next;
          component.push_back(neighbour);
        }
      }
    }
    if (static_cast<int64_t>(component.size()) < options.min_area) {
      for (const int64_t pixel : component) labels[at(pixel)] = 0;
      too_small.insert(component.begin(), component.end());
    } else {
      ++next;
    }
  }
  return labels;
}

void expect_measured(const Instances& found, const Ids& ids, int64_t width) {
  const auto& labels = std::get<std::vector<uint16_t>>(found.labels.pixels);
  for (const Instance& object : found.objects) {
    int64_t area = 0, left = width, right = -1, top = -1, bottom = -1;
    double sum_x = 0, sum_y = 0;
    for (size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] != object.label) continue;
      const auto x = static_cast<int64_t>(i) % width;
      const auto y = static_cast<int64_t>(i) / width;
      EXPECT_EQ(ids[i], object.class_id);
      ++area;
      left = std::min(left, x);
      right = std::max(right, x);
      top = top < 0 ? y : top;
      bottom = y;
      sum_x += static_cast<double>(x);
      sum_y += static_cast<double>(y);
    }
    EXPECT_EQ(object.area, area);
    EXPECT_EQ(object.x, left);
    EXPECT_EQ(object.y, top);
    EXPECT_EQ(object.width, right - left + 1);
    EXPECT_EQ(object.height, bottom - top + 1);
    EXPECT_DOUBLE_EQ(object.centroid_x, sum_x / static_cast<double>(area));
    EXPECT_DOUBLE_EQ(object.centroid_y, sum_y / static_cast<double>(area));
  }
}

TEST(Instances, AgreeWithAFloodFillOnRandomMasks) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const int64_t height = 1 + random() % 24;
    const int64_t width = 1 + random() % 24;
    const unsigned classes = 1 + random() % 4;
    Ids ids(static_cast<size_t>(height * width));
    for (uint8_t& id : ids) id = static_cast<uint8_t>(random() % classes);
    InstanceOptions options;
    options.connectivity = round % 2 == 0 ? 8 : 4;
    options.min_area = 1 + random() % 4;
    if (round % 3 == 1) options.background = {};
    if (round % 3 == 2) options.background = {1, 2};
    const Instances found = find_instances(ids, height, width, options);
    const std::vector<uint16_t> expected = flood_fill(ids, height, width, options);
    EXPECT_EQ(found.labels.height, height);
    EXPECT_EQ(found.labels.width, width);
    ASSERT_TRUE(std::get<std::vector<uint16_t>>(found.labels.pixels) == expected) << round;
    EXPECT_EQ(static_cast<int64_t>(found.objects.size()),
              *std::max_element(expected.begin(), expected.end()));
    expect_measured(found, ids, width);

    // Row by row, with tables on disk that are no longer in memory.
    InstanceFinder finder(width, options,
                          round % 2 == 0 ? std::filesystem::temp_directory_path() : "");
    std::vector<uint32_t> row(static_cast<size_t>(width));
    for (int64_t y = 0; y < height; ++y, finder.release())
      finder.add_row(ids.data() + y * width, row.data());
    std::vector<Instance> objects;
    EXPECT_EQ(finder.finish([&](const Instance& one) { objects.push_back(one); }),
              static_cast<int64_t>(found.objects.size()));
    EXPECT_EQ(to_json(objects), to_json(found.objects));
    for (int64_t y = 0; y < height; ++y, finder.release()) {
      finder.label_row(ids.data() + y * width, row.data());
      ASSERT_TRUE(std::ranges::equal(
          row, std::span(expected).subspan(static_cast<size_t>(y * width), row.size())))
          << round << ", row " << y;
    }
  }
}

TEST(Instances, CornersTouchOnlyWithEightConnectivity) {
  const Ids ids = {1, 0, 0, 1};
  EXPECT_EQ(find_instances(ids, 2, 2, {.connectivity = 8}).objects.size(), 1u);
  EXPECT_EQ(find_instances(ids, 2, 2, {.connectivity = 4}).objects.size(), 2u);
}

// The worst case for union-find: each tooth is a provisional label until the last row joins them.
TEST(Instances, AComb) {
  constexpr int64_t kSize = 1001;
  Ids ids(kSize * kSize, 0);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = i % 2 == 0 || i >= kSize * (kSize - 1) ? 1 : 0;
  for (int64_t y = 0; y + 1 < kSize; ++y) {
    for (int64_t x = 0; x < kSize; ++x) ids[static_cast<size_t>(y * kSize + x)] = x % 2 == 0;
  }
  const Instances found = find_instances(ids, kSize, kSize, {.connectivity = 4});
  ASSERT_EQ(found.objects.size(), 1u);
  EXPECT_EQ(found.objects[0].area, 501 * 1000 + 1001);
}

TEST(Instances, MoreThan65535NeedA32BitLabelImage) {
  constexpr int64_t kSize = 600;  // 300 x 300 separate pixels
  Ids ids(kSize * kSize, 0);
  for (int64_t y = 0; y < kSize; y += 2) {
    for (int64_t x = 0; x < kSize; x += 2) ids[static_cast<size_t>(y * kSize + x)] = 5;
  }
  const Instances found = find_instances(ids, kSize, kSize, {});
  ASSERT_EQ(found.objects.size(), 90000u);
  EXPECT_EQ(found.objects.back().label, 90000);
  EXPECT_EQ(std::get<std::vector<uint32_t>>(found.labels.pixels)[598 * 600 + 598], 90000u);
}

TEST(Instances, ListThemselvesAsJson) {
  const Instances found = find_instances(Ids{0, 2, 2}, 1, 3, {});
  EXPECT_EQ(to_json(found.objects).dump(),
            R"([{"area":2,"bounding_box":[1,0,2,1],"centroid":[1.5,0.0],"class":2,"label":1}])");
  EXPECT_EQ(to_json(std::vector<Instance>{}).dump(), "[]");
}

TEST(Instances, RefuseWrongSizesAndConnectivity) {
  const auto error = [](const Ids& ids, int64_t height, int64_t width, int connectivity) {
    return test::error_of(
        [&] { find_instances(ids, height, width, {.connectivity = connectivity}); });
  };
  EXPECT_THAT(error(Ids(3), 2, 2, 8), HasSubstr("3 class ids, expected 2 x 2"));
  EXPECT_THAT(error(Ids(4), 2, 2, 6), HasSubstr("connectivity 6, expected 4 or 8"));
}

// Each nucleus of the labelled set that does not touch another is found with its own area.
TEST(Instances, FindTheNucleiOfRealMasks) {
  namespace fs = std::filesystem;
  const fs::path folder = test::shared_dir() / "data/dsb2018/fluo256/train/label";
  if (!fs::exists(folder)) GTEST_SKIP() << "no real data at " << folder;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i < std::min<size_t>(files.size(), 10); ++i) {
    const Image image = ImageReader(files[i]).read();
    const auto& truth = std::get<std::vector<uint16_t>>(image.pixels);
    const Ids ids(truth.begin(), truth.end());  // each nucleus as a class of its own
    const Instances found = find_instances(ids, image.height, image.width, {});
    const std::set<uint16_t> nuclei(truth.begin(), truth.end());
    EXPECT_GE(found.objects.size(), nuclei.size() - 1) << files[i];
    int64_t area = 0;
    for (const Instance& object : found.objects) area += object.area;
    EXPECT_EQ(area, std::count_if(truth.begin(), truth.end(), [](uint16_t v) { return v != 0; }));
  }
}

}  // namespace
}  // namespace tessera
