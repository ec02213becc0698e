// Objects in a mask: connected components of each foreground class, measured.
#pragma once

#include <cstdint>
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
  Image labels;                   // grey, 0 = background; 16-bit, or 32-bit above 65535 objects
  std::vector<Instance> objects;  // by label, which counts first pixels in reading order
};

// Linear in the number of pixels. `class_ids` is (height, width). Throws Error on a wrong size, a
// connectivity other than 4 or 8, or above 2^32 - 2 pixels.
Instances find_instances(std::span<const uint8_t> class_ids, int64_t height, int64_t width,
                         const InstanceOptions& options);

// [{"label": 1, "class": 1, "area": 12, "bounding_box": [x, y, w, h], "centroid": [x, y]}, ..]
nlohmann::json to_json(const std::vector<Instance>& objects);

}  // namespace tessera
