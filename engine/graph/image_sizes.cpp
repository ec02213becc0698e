#include "engine/graph/image_sizes.h"

#include <algorithm>
#include <string>

namespace tessera {

namespace {

// Sizes tried before a network counts as one that runs at none: fewer for a large one.
constexpr std::int64_t kMostTried = 1 << 13, kLeastTried = 1 << 8, kNodesTried = 1 << 21;
// Far enough from the smallest size to tell the map's resolution.
constexpr std::int64_t kFar = 512;

}  // namespace

ImageSizes::ImageSizes(Graph graph, std::int64_t channels, std::int64_t multiple)
    : graph_(std::move(graph)), channels_(channels), multiple_(multiple) {
  require(graph_.inputs.size() == 1, "a network of images has one input, this one {}",
          graph_.inputs.size());
  const auto nodes = static_cast<std::int64_t>(graph_.nodes.size());
  const std::int64_t tried =
      std::clamp(kNodesTried / std::max<std::int64_t>(nodes, 1), kLeastTried, kMostTried);
  std::string why = "its crops are nowhere centred";
  for (std::int64_t size = multiple; size <= multiple * tried && least_[0] == 0; size += multiple) {
    try {
      if (try_output(0, type(size, size)) && try_output(1, type(size, size))) least_ = {size, size};
    } catch (const Error& error) {
      why = error.what();
    }
  }
  require(least_[0] > 0, "the network runs at no size up to {} x {}: {}", multiple * tried,
          multiple * tried, why);
  for (const int axis : {0, 1}) {
    const std::int64_t least = least_[index(axis)], gives = *output(axis, least);
    margin_[index(axis)] = std::max<std::int64_t>(least - gives, 0) / 2;
    const std::int64_t far = next(axis, least + kFar), far_gives = *output(axis, far);
    const std::int64_t drift = (far_gives - gives) - (far - least);
    require(std::abs(drift) <= (far - least) / 16,
            "the network gives a map of {} pixels for {} of an image; end it at the image's "
            "resolution, with an up-sampling",
            far_gives, far);
  }
}

std::optional<std::int64_t> ImageSizes::try_output(int axis, const TensorType& image) const {
  const std::vector<TensorType> types = infer_types(graph_, {&image, 1});
  for (const Node& node : graph_.nodes) {
    const auto* concat = std::get_if<CropConcat>(&node.op);
    if (concat == nullptr || concat->align != CropConcat::Align::kCropSkip) continue;
    const auto side = [&](std::size_t i) { return types[node.inputs[i]].shape[1 + axis]; };
    if ((side(0) - side(1)) % 2 != 0) return std::nullopt;
  }
  const Shape& map = types[graph_.outputs.at(0)].shape;
  require(map.rank() >= 3, "the network's answer is {}, and no map (n, h, w)", map);
  return map[1 + axis];
}

std::optional<std::int64_t> ImageSizes::output(int axis, std::int64_t input) const {
  if (input <= 0 || input % multiple_ != 0) return std::nullopt;
  const auto [entry, is_new] = known_[index(axis)].try_emplace(input);
  if (is_new) {
    try {
      entry->second = try_output(axis, axis == 0 ? type(input, least_[1]) : type(least_[0], input));
    } catch (const Error&) {  // it does not run: nothing is what output says of it
    }
  }
  return entry->second;
}

std::int64_t ImageSizes::next(int axis, std::int64_t input) const {
  std::int64_t size = (std::max<std::int64_t>(input, 1) + multiple_ - 1) / multiple_ * multiple_;
  for (std::int64_t tried = 0; tried < kMostTried; ++tried, size += multiple_) {
    if (output(axis, size)) return size;
  }
  fail("the network runs at no size from {} to {} pixels; use a smaller image", input, size);
}

std::int64_t ImageSizes::input(int axis, std::int64_t pixels) const {
  std::int64_t size = std::max(pixels + 2 * margin(axis), least_[index(axis)]);
  for (std::int64_t tried = 0; tried < kMostTried; ++tried) {
    size = next(axis, size);
    if (*output(axis, size) >= pixels) return size;
    ++size;
  }
  fail("the network gives a map of {} pixels at no size up to {}; use a smaller image", pixels,
       size);
}

}  // namespace tessera
