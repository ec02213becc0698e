#include "models/image/instances.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace tessera {
namespace {

// Disjoint sets of provisional labels. The root of a set is its least label, so that roots come in
// the reading order of first pixels; label 0 is the background.
class DisjointSets {
 public:
  uint32_t add() {
    parent_.push_back(static_cast<uint32_t>(parent_.size()));
    return parent_.back();
  }

  uint32_t root(uint32_t label) {
    while (parent_[label] != label) {
      parent_[label] = parent_[parent_[label]];
      label = parent_[label];
    }
    return label;
  }

  uint32_t join(uint32_t a, uint32_t b) {
    a = root(a);
    b = root(b);
    if (a > b) std::swap(a, b);
    parent_[b] = a;
    return a;
  }

  size_t size() const { return parent_.size(); }

 private:
  std::vector<uint32_t> parent_{0};
};

struct Grid {
  std::span<const uint8_t> class_ids;
  int64_t height;
  int64_t width;
};

// The first pass: each foreground pixel takes the label of its neighbours already read, whose sets
// it joins, or a new one.
std::vector<uint32_t> label_provisionally(const Grid& grid, const InstanceOptions& options,
                                          DisjointSets& sets) {
  const auto is_background = [&](uint8_t id) {
    return std::find(options.background.begin(), options.background.end(), id) !=
           options.background.end();
  };
  std::vector<uint32_t> labels(grid.class_ids.size(), 0);
  const uint8_t* ids = grid.class_ids.data();
  for (int64_t y = 0; y < grid.height; ++y) {
    for (int64_t x = 0; x < grid.width; ++x) {
      const int64_t i = y * grid.width + x;
      if (is_background(ids[i])) continue;
      uint32_t label = 0;
      const auto touch = [&](int64_t neighbour) {
        if (ids[neighbour] != ids[i]) return;
        const uint32_t other = labels[static_cast<size_t>(neighbour)];
        label = label == 0 ? other : sets.join(label, other);
      };
      if (x > 0) touch(i - 1);
      if (y > 0) {
        const int64_t above = i - grid.width;
        touch(above);
        if (options.connectivity == 8 && x > 0) touch(above - 1);
        if (options.connectivity == 8 && x + 1 < grid.width) touch(above + 1);
      }
      labels[static_cast<size_t>(i)] = label != 0 ? label : sets.add();
    }
  }
  return labels;
}

// Sums over the pixels of one component; centroids hold sums until they are divided by the area.
std::vector<Instance> measure(const Grid& grid, const std::vector<uint32_t>& roots, size_t count) {
  std::vector<Instance> components(count);
  for (int64_t y = 0; y < grid.height; ++y) {
    for (int64_t x = 0; x < grid.width; ++x) {
      const auto i = static_cast<size_t>(y * grid.width + x);
      if (roots[i] == 0) continue;
      Instance& component = components[roots[i]];
      if (component.area == 0) {
        component.class_id = grid.class_ids[i];
        component.x = x;
        component.y = y;
      }
      const int64_t left = std::min(component.x, x);
      component.width = std::max(component.x + component.width, x + 1) - left;
      component.x = left;
      component.height = y + 1 - component.y;
      ++component.area;
      component.centroid_x += static_cast<double>(x);
      component.centroid_y += static_cast<double>(y);
    }
  }
  return components;
}

template <class T>
std::vector<T> relabel(const std::vector<uint32_t>& roots,
                       const std::vector<Instance>& components) {
  std::vector<T> labels(roots.size());
  std::transform(roots.begin(), roots.end(), labels.begin(),
                 [&](uint32_t root) { return static_cast<T>(components[root].label); });
  return labels;
}

}  // namespace

Instances find_instances(std::span<const uint8_t> class_ids, int64_t height, int64_t width,
                         const InstanceOptions& options) {
  require(options.connectivity == 4 || options.connectivity == 8,
          "instances: connectivity {}, expected 4 or 8", options.connectivity);
  require(height > 0 && width > 0 && static_cast<int64_t>(class_ids.size()) == height * width,
          "instances: the mask has {} class ids, expected {} x {}", class_ids.size(), height,
          width);
  constexpr size_t kMaxPixels = 0xfffffffe;  // each could be a label of its own
  require(class_ids.size() <= kMaxPixels, "instances: {} pixels, expected at most {}",
          class_ids.size(), kMaxPixels);

  const Grid grid{class_ids, height, width};
  DisjointSets sets;
  std::vector<uint32_t> labels = label_provisionally(grid, options, sets);
  for (uint32_t& label : labels) label = sets.root(label);

  std::vector<Instance> components = measure(grid, labels, sets.size());
  Instances result;
  for (Instance& component : components) {
    if (component.area == 0 || component.area < options.min_area) continue;
    component.label = static_cast<int64_t>(result.objects.size()) + 1;
    component.centroid_x /= static_cast<double>(component.area);
    component.centroid_y /= static_cast<double>(component.area);
    result.objects.push_back(component);
  }

  constexpr size_t kMax16BitLabel = 65535;
  Image& image = result.labels;
  image = {height, width, 1, {}};
  if (result.objects.size() <= kMax16BitLabel) {
    image.pixels = relabel<uint16_t>(labels, components);
  } else {
    image.pixels = relabel<uint32_t>(labels, components);
  }
  return result;
}

nlohmann::json to_json(const std::vector<Instance>& objects) {
  nlohmann::json json = nlohmann::json::array();
  for (const Instance& object : objects) {
    json.push_back({{"label", object.label},
                    {"class", object.class_id},
                    {"area", object.area},
                    {"bounding_box", {object.x, object.y, object.width, object.height}},
                    {"centroid", {object.centroid_x, object.centroid_y}}});
  }
  return json;
}

}  // namespace tessera
