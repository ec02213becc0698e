// Objects in a mask: connected components of each foreground class, measured.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "models/image/image.h"

namespace tessera {

struct InstanceOptions {
  std::vector<uint8_t> background{0};  // classes that are no objects
  int connectivity = 8;                // 4: pixels touch by edges; 8: by corners too
  int64_t min_area = 1;                // pixels; smaller components become background
};

// With so many objects labels are of 16 bits, with more of 32.
inline constexpr size_t kMax16BitLabel = 65535;

// Lengths in pixels. The centroid is the mean of the pixels' (column, row), so one pixel at the
// origin has (0, 0).
struct Instance {
  int64_t label = 0;  // its value in the label image, from 1
  uint8_t class_id = 0;
  int64_t area = 0;
  int64_t x = 0;  // bounding box: left, top, width, height
  int64_t y = 0;
  int64_t width = 0;
  int64_t height = 0;
  double centroid_x = 0;
  double centroid_y = 0;
};

struct Instances {
  Image labels;                   // grey, 0 = background; 16-bit, or 32-bit above kMax16BitLabel
  std::vector<Instance> objects;  // by label, which counts first pixels in reading order
};

// Finds the objects of a mask whose rows come one by one, from the first to the last. Memory grows
// with the width and the number of objects, not with the height.
class InstanceFinder {
 public:
  // Throws Error on a connectivity other than 4 or 8.
  InstanceFinder(int64_t width, const InstanceOptions& options);
  ~InstanceFinder();

  // Writes provisional labels of the next row, 0 for the background: the same for the same rows,
  // so that a second finder gives them again.
  void add_row(const uint8_t* class_ids, uint32_t* provisional);

  // Behind the last row: the objects, by label.
  std::vector<Instance> finish();
  // Then: the label of what has a provisional one.
  uint32_t label_of(uint32_t provisional) const { return labels_[provisional]; }

 private:
  class DisjointSets;

  int64_t width_;
  InstanceOptions options_;
  int64_t y_ = 0;
  std::vector<uint8_t> ids_above_;
  std::vector<uint32_t> above_;  // provisional labels
  std::unique_ptr<DisjointSets> sets_;
  std::vector<Instance> components_;  // by provisional label
  std::vector<uint32_t> labels_;      // by provisional label
};

// Linear in the number of pixels. `class_ids` is (height, width). Throws Error on a wrong size, a
// connectivity other than 4 or 8, or above 2^32 - 2 pixels.
Instances find_instances(std::span<const uint8_t> class_ids, int64_t height, int64_t width,
                         const InstanceOptions& options);

// [{"label": 1, "class": 1, "area": 12, "bounding_box": [x, y, w, h], "centroid": [x, y]}, ..]
nlohmann::json to_json(const std::vector<Instance>& objects);

}  // namespace tessera
