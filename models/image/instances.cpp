#include "models/image/instances.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace tessera {
// Disjoint sets of provisional labels. The root of a set is its least label, so that roots come in
// the reading order of first pixels; label 0 is the background.
class InstanceFinder::DisjointSets {
 public:
  uint32_t add() {
    constexpr size_t kMost = 0xfffffffe;
    require(parent_.size() <= kMost, "instances: more than {} pieces of objects; cut the image",
            kMost);
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

 private:
  std::vector<uint32_t> parent_{0};
};

namespace {

// Centroids hold sums until they are divided by the area.
void add_pixel(Instance& component, uint8_t id, int64_t y, int64_t x) {
  if (component.area == 0) {
    component.class_id = id;
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

void add_component(Instance& to, const Instance& from) {
  const int64_t right = std::max(to.x + to.width, from.x + from.width);
  const int64_t bottom = std::max(to.y + to.height, from.y + from.height);
  to.x = std::min(to.x, from.x);
  to.y = std::min(to.y, from.y);
  to.width = right - to.x;
  to.height = bottom - to.y;
  to.area += from.area;
  to.centroid_x += from.centroid_x;
  to.centroid_y += from.centroid_y;
}

template <class T>
std::vector<T> relabel(const std::vector<uint32_t>& provisional, const InstanceFinder& finder) {
  std::vector<T> labels(provisional.size());
  std::transform(provisional.begin(), provisional.end(), labels.begin(),
                 [&](uint32_t label) { return static_cast<T>(finder.label_of(label)); });
  return labels;
}

}  // namespace

InstanceFinder::InstanceFinder(int64_t width, const InstanceOptions& options)
    : width_(width),
      options_(options),
      ids_above_(static_cast<size_t>(width)),
      above_(static_cast<size_t>(width)),
      sets_(std::make_unique<DisjointSets>()),
      components_(1) {
  require(options.connectivity == 4 || options.connectivity == 8,
          "instances: connectivity {}, expected 4 or 8", options.connectivity);
}

InstanceFinder::~InstanceFinder() = default;

void InstanceFinder::add_row(const uint8_t* ids, uint32_t* labels) {
  const bool corners = options_.connectivity == 8;
  for (int64_t x = 0; x < width_; ++x) {
    const uint8_t id = ids[x];
    labels[x] = 0;
    if (std::find(options_.background.begin(), options_.background.end(), id) !=
        options_.background.end())
      continue;
    uint32_t label = 0;
    // Above the first row there is background.
    const auto touch = [&](uint8_t neighbour, uint32_t other) {
      if (other != 0 && neighbour == id) label = label == 0 ? other : sets_->join(label, other);
    };
    const auto touch_above = [&](int64_t i) {
      touch(ids_above_[static_cast<size_t>(i)], above_[static_cast<size_t>(i)]);
    };
    if (x > 0) touch(ids[x - 1], labels[x - 1]);
    touch_above(x);
    if (corners && x > 0) touch_above(x - 1);
    if (corners && x + 1 < width_) touch_above(x + 1);
    if (label == 0) {
      label = sets_->add();
      components_.emplace_back();
    }
    labels[x] = label;
    add_pixel(components_[label], id, y_, x);
  }
  std::copy_n(ids, width_, ids_above_.begin());
  std::copy_n(labels, width_, above_.begin());
  ++y_;
}

std::vector<Instance> InstanceFinder::finish() {
  labels_.assign(components_.size(), 0);
  for (size_t i = components_.size() - 1; i > 0; --i) {
    const uint32_t root = sets_->root(static_cast<uint32_t>(i));
    if (root != i) add_component(components_[root], components_[i]);
  }
  std::vector<Instance> objects;
  for (size_t i = 1; i < components_.size(); ++i) {
    const uint32_t root = sets_->root(static_cast<uint32_t>(i));
    if (root != i) {
      labels_[i] = labels_[root];
      continue;
    }
    Instance& component = components_[i];
    if (component.area < options_.min_area) continue;
    component.label = static_cast<int64_t>(objects.size()) + 1;
    component.centroid_x /= static_cast<double>(component.area);
    component.centroid_y /= static_cast<double>(component.area);
    objects.push_back(component);
    labels_[i] = static_cast<uint32_t>(component.label);
  }
  components_ = {};
  return objects;
}

Instances find_instances(std::span<const uint8_t> class_ids, int64_t height, int64_t width,
                         const InstanceOptions& options) {
  require(height > 0 && width > 0 && static_cast<int64_t>(class_ids.size()) == height * width,
          "instances: the mask has {} class ids, expected {} x {}", class_ids.size(), height,
          width);
  InstanceFinder finder(width, options);
  std::vector<uint32_t> provisional(class_ids.size());
  for (int64_t y = 0; y < height; ++y)
    finder.add_row(class_ids.data() + y * width, provisional.data() + y * width);

  Instances result;
  result.objects = finder.finish();
  Image& image = result.labels;
  image = {height, width, 1, {}};
  if (result.objects.size() <= kMax16BitLabel) {
    image.pixels = relabel<uint16_t>(provisional, finder);
  } else {
    image.pixels = relabel<uint32_t>(provisional, finder);
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
