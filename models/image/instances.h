// Objects in a mask: connected components of each foreground class, measured.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "engine/files/scratch_file.h"
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
// with the width and the number of objects, not with the height; with a folder for scratch files it
// grows with the width alone, where release() is called every some rows.
class InstanceFinder {
 public:
  // Throws Error on a connectivity other than 4 or 8, and where no scratch file can be made.
  InstanceFinder(int64_t width, const InstanceOptions& options,
                 const std::filesystem::path& scratch = {});

  // Writes provisional labels of the next row, 0 for the background.
  void add_row(const uint8_t* class_ids, uint32_t* provisional);

  // Behind the last row: gives the objects, by label. Returns how many there are.
  int64_t finish(const std::function<void(const Instance&)>& take);
  // Then: the label of what has a provisional one.
  uint32_t label_of(uint32_t provisional) const { return labels_[provisional]; }
  // Then, with the same rows again, from the first on: their labels.
  void label_row(const uint8_t* class_ids, uint32_t* labels);

  // Of the process's memory what scratch files keep.
  void release();

 private:
  // Calls first(), touching(label of a neighbour of the same object) or both for each pixel of an
  // object; they return its label so far.
  template <class First, class Join>
  void scan(const uint8_t* class_ids, uint32_t* labels, const First& first, const Join& join);

  // Disjoint sets of provisional labels. The root of a set is its least label, so that roots come
  // in the reading order of first pixels; label 0 is the background.
  uint32_t root(uint32_t label);
  uint32_t join(uint32_t a, uint32_t b);

  int64_t width_;
  int connectivity_;
  int64_t min_area_;
  std::array<bool, 256> is_background_{};
  int64_t y_ = 0;
  std::vector<uint8_t> ids_above_;
  std::vector<uint32_t> above_;  // labels
  // By provisional label, from 0, which is the background.
  ScratchTable<uint32_t> parents_;
  ScratchTable<Instance> components_;
  ScratchTable<uint32_t> labels_;
  uint32_t last_first_ = 0;  // the last provisional label that label_row has met
};

// Linear in the number of pixels. `class_ids` is (height, width). Throws Error on a wrong size, a
// connectivity other than 4 or 8, or above 2^32 - 2 pixels.
Instances find_instances(std::span<const uint8_t> class_ids, int64_t height, int64_t width,
                         const InstanceOptions& options);

// [{"label": 1, "class": 1, "area": 12, "bounding_box": [x, y, w, h], "centroid": [x, y]}, ..]
nlohmann::json to_json(const std::vector<Instance>& objects);

}  // namespace tessera
