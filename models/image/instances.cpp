#include "models/image/instances.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace tessera {

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

InstanceFinder::InstanceFinder(int64_t width, const InstanceOptions& options,
                               const std::filesystem::path& scratch)
    : width_(width),
      connectivity_(options.connectivity),
      min_area_(options.min_area),
      ids_above_(static_cast<size_t>(width)),
      above_(static_cast<size_t>(width)),
      parents_(scratch),
      components_(scratch),
      labels_(scratch) {
  require(options.connectivity == 4 || options.connectivity == 8,
          "instances: connectivity {}, expected 4 or 8", options.connectivity);
  for (const uint8_t id : options.background) is_background_[id] = true;
  parents_.push_back(0);
  components_.push_back({});
}

uint32_t InstanceFinder::root(uint32_t label) {
  while (parents_[label] != label) {
    parents_[label] = parents_[parents_[label]];
    label = parents_[label];
  }
  return label;
}

uint32_t InstanceFinder::join(uint32_t a, uint32_t b) {
  a = root(a);
  b = root(b);
  if (a > b) std::swap(a, b);
  parents_[b] = a;
  return a;
}

template <class First, class Join>
void InstanceFinder::scan(const uint8_t* ids, uint32_t* labels, const First& first,
                          const Join& join) {
  const bool corners = connectivity_ == 8, has_above = y_ > 0;
  for (int64_t x = 0; x < width_; ++x) {
    const uint8_t id = ids[x];
    labels[x] = 0;
    if (is_background_[id]) continue;
    uint32_t label = 0;
    bool is_first = true;
    const auto touch = [&](uint8_t neighbour, uint32_t other) {
      if (neighbour != id) return;
      label = is_first ? other : join(label, other);
      is_first = false;
    };
    const auto touch_above = [&](int64_t i) {
      touch(ids_above_[static_cast<size_t>(i)], above_[static_cast<size_t>(i)]);
    };
    if (x > 0) touch(ids[x - 1], labels[x - 1]);
    if (has_above) {
      touch_above(x);
      if (corners && x > 0) touch_above(x - 1);
      if (corners && x + 1 < width_) touch_above(x + 1);
    }
    labels[x] = is_first ? first() : label;
  }
  std::copy_n(ids, width_, ids_above_.begin());
  std::copy_n(labels, width_, above_.begin());
  ++y_;
}

void InstanceFinder::add_row(const uint8_t* ids, uint32_t* labels) {
  const int64_t y = y_;
  scan(
      ids, labels,
      [&] {
        constexpr size_t kMost = 0xfffffffe;
        require(parents_.size() <= kMost,
                "instances: more than {} pieces of objects; cut the image", kMost);
        const auto label = static_cast<uint32_t>(parents_.size());
        parents_.push_back(label);
        components_.push_back({});
        return label;
      },
      [&](uint32_t a, uint32_t b) { return join(a, b); });
  for (int64_t x = 0; x < width_; ++x)
    if (labels[x] != 0) add_pixel(components_[labels[x]], ids[x], y, x);
}

int64_t InstanceFinder::finish(const std::function<void(const Instance&)>& take) {
  constexpr size_t kEntriesHeld = 1 << 16;  // between two releases
  for (size_t i = components_.size() - 1; i > 0; --i) {
    const uint32_t first = root(static_cast<uint32_t>(i));
    if (first != i) add_component(components_[first], components_[i]);
    if (i % kEntriesHeld == 0) release();
  }
  int64_t objects = 0;
  labels_.push_back(0);
  for (size_t i = 1; i < components_.size(); ++i) {
    if (i % kEntriesHeld == 0) release();
    const uint32_t first = root(static_cast<uint32_t>(i));
    if (first != i) {
      labels_.push_back(labels_[first]);
      continue;
    }
    Instance component = components_[i];
    if (component.area < min_area_) {
      labels_.push_back(0);
      continue;
    }
    component.label = ++objects;
    component.centroid_x /= static_cast<double>(component.area);
    component.centroid_y /= static_cast<double>(component.area);
    labels_.push_back(static_cast<uint32_t>(objects));
    take(component);
  }
  y_ = 0;
  return objects;
}

// A pixel that touches its object's earlier ones has their label, so that nothing is joined again.
void InstanceFinder::label_row(const uint8_t* ids, uint32_t* labels) {
  scan(
      ids, labels, [&] { return labels_[++last_first_]; },
      [](uint32_t label, uint32_t) { return label; });
}

void InstanceFinder::release() {
  parents_.release();
  components_.release();
  labels_.release();
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
  finder.finish([&](const Instance& object) { result.objects.push_back(object); });
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
