#include "models/import/onnx_constant.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {

std::int64_t onnx_elements(std::span<const std::int64_t> extents) {
  std::int64_t room = 1;
  bool empty = false;
  for (const std::int64_t extent : extents) {
    empty |= extent == 0;
    require(extent >= 0 && !__builtin_mul_overflow(room, std::max<std::int64_t>(extent, 1), &room),
            "a constant of shape {} is none", shape_text(extents));
  }
  return empty ? 0 : room;
}

std::int64_t OnnxConstant::elements() const {
  return onnx_elements(shape);
}

std::vector<double> OnnxConstant::values() const {
  if (!stored) return made;
  require(elements() <= kMostMadeElements,
          "the constant {} of {} elements is computed with, at most {} are",
          in_quotes(stored->name), elements(), kMostMadeElements);
  StoredTensor flat = *stored;
  flat.shape = {elements()};
  if (!is_float()) {
    const std::vector<std::int64_t> whole = read_integers(flat);
    return {whole.begin(), whole.end()};
  }
  const FloatTensor read = read_floats(flat);
  return {read.values.begin(), read.values.end()};
}

std::vector<int> OnnxConstant::integers(std::string_view what) const {
  constexpr std::int64_t kMostIntegers = 1 << 16;
  require(!is_float() && elements() <= kMostIntegers, "its {} are {} {}, expected whole numbers",
          what, name_of(type), shape_text(shape));
  std::vector<int> whole;
  for (const double value : values()) {
    require(!std::isnan(value), "its {} have no value: 0 / 0 or the like", what);
    whole.push_back(static_cast<int>(std::clamp(value, double{std::numeric_limits<int>::min()},
                                                double{std::numeric_limits<int>::max()})));
  }
  return whole;
}

OnnxConstantPtr onnx_constant(const StoredTensor& tensor) {
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = tensor.type;
  constant->shape = tensor.shape;
  constant->stored = tensor;
  return constant;
}

OnnxConstantPtr onnx_integers(std::vector<std::int64_t> values) {
  auto constant = std::make_shared<OnnxConstant>();
  constant->shape = {static_cast<std::int64_t>(values.size())};
  constant->made.assign(values.begin(), values.end());
  return constant;
}

const OnnxAttribute* OnnxAttributes::find(const std::string& name) const {
  const auto found = node_.attributes.find(name);
  return found == node_.attributes.end() ? nullptr : &found->second;
}

const OnnxAttribute* OnnxAttributes::find(const std::string& name, OnnxAttribute::Kind kind) const {
  const OnnxAttribute* attribute = find(name);
  require(attribute == nullptr || attribute->kind == kind, "its attribute {} is of another kind",
          in_quotes(name));
  return attribute;
}

std::int64_t OnnxAttributes::integer(const std::string& name, std::int64_t otherwise) const {
  const OnnxAttribute* attribute = find(name, OnnxAttribute::Kind::kInt);
  return attribute == nullptr ? otherwise : attribute->ints[0];
}

double OnnxAttributes::number(const std::string& name, double otherwise) const {
  const OnnxAttribute* attribute = find(name, OnnxAttribute::Kind::kFloat);
  return attribute == nullptr ? otherwise : attribute->floats[0];
}

std::string OnnxAttributes::text(const std::string& name, const std::string& otherwise) const {
  const OnnxAttribute* attribute = find(name, OnnxAttribute::Kind::kText);
  return attribute == nullptr ? otherwise : attribute->texts[0];
}

std::vector<int> OnnxAttributes::integers(const std::string& name,
                                          std::vector<int> otherwise) const {
  const OnnxAttribute* attribute = find(name, OnnxAttribute::Kind::kInts);
  if (attribute == nullptr) return otherwise;
  std::vector<int> whole;
  for (const std::int64_t value : attribute->ints)
    whole.push_back(static_cast<int>(std::clamp<std::int64_t>(
        value, std::numeric_limits<int>::min(), std::numeric_limits<int>::max())));
  return whole;
}

std::vector<std::int64_t> broadcast_shape(std::span<const std::int64_t> a,
                                          std::span<const std::int64_t> b) {
  if (a.size() < b.size()) std::swap(a, b);
  std::vector<std::int64_t> shape(a.begin(), a.end());
  for (std::size_t i = 1; i <= b.size(); ++i) {
    std::int64_t& extent = shape[shape.size() - i];
    const std::int64_t other = b[b.size() - i];
    require(extent == other || extent == 1 || other == 1, "{} and {} do not broadcast",
            shape_text(a), shape_text(b));
    if (extent == 1) extent = other;
  }
  return shape;
}

std::vector<std::int64_t> reshaped(std::span<const std::int64_t> shape, std::vector<int> wanted,
                                   bool allow_zero) {
  const std::int64_t elements = onnx_elements(shape);
  std::vector<std::int64_t> extents(wanted.begin(), wanted.end());
  std::ptrdiff_t open = -1;
  std::int64_t known = 1;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i] == 0 && !allow_zero && i < shape.size()) extents[i] = shape[i];
    require(extents[i] >= -1 && (extents[i] != -1 || open < 0), "it asks for the extents ({})",
            shape_text(std::vector<std::int64_t>(wanted.begin(), wanted.end())));
    if (extents[i] == -1) {
      open = static_cast<std::ptrdiff_t>(i);
    } else {
      require(!__builtin_mul_overflow(known, extents[i], &known), "its extents are too large");
    }
  }
  if (open >= 0 && known != 0) extents[static_cast<std::size_t>(open)] = elements / known;
  require(open >= 0 ? known != 0 && elements % known == 0 : known == elements,
          "{} has not the elements of {}", shape_text(shape), shape_text(extents));
  return extents;
}

std::vector<std::int64_t> squeezed(std::span<const std::int64_t> shape, std::span<const int> axes) {
  std::vector<bool> gone(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) gone[i] = axes.empty() && shape[i] == 1;
  for (const int axis : axes) {
    const auto at = static_cast<std::size_t>(onnx_axis(axis, shape.size()));
    require(shape[at] == 1, "axis {} of {} is not 1", axis, shape_text(shape));
    gone[at] = true;
  }
  std::vector<std::int64_t> kept;
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (!gone[i]) kept.push_back(shape[i]);
  return kept;
}

std::vector<std::int64_t> unsqueezed(std::span<const std::int64_t> shape,
                                     std::span<const int> axes) {
  constexpr std::int64_t kOpen = -1;
  std::vector<std::int64_t> longer(shape.size() + axes.size(), kOpen);
  for (const int axis : axes) {
    std::int64_t& extent = longer[static_cast<std::size_t>(onnx_axis(axis, longer.size()))];
    require(extent == kOpen, "its axes name {} twice", axis);
    extent = 1;
  }
  auto next = shape.begin();
  for (std::int64_t& extent : longer)
    if (extent == kOpen) extent = *next++;
  return longer;
}

std::vector<std::int64_t> flattened(std::span<const std::int64_t> shape, std::int64_t axis) {
  const auto rank = static_cast<std::int64_t>(shape.size());
  require(axis >= -rank && axis <= rank, "axis {} is none of {}", axis, rank);
  const auto rows = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
  return {onnx_elements(shape.first(rows)), onnx_elements(shape.subspan(rows))};
}

std::vector<int> split_sizes(std::int64_t extent, std::size_t parts, std::vector<int> given) {
  const auto count = static_cast<std::int64_t>(parts);
  require(count > 0, "it makes nothing");
  const std::int64_t share = (extent + count - 1) / count;
  const bool is_even = given.empty();
  for (std::int64_t i = 0; is_even && i < count; ++i)
    given.push_back(
        static_cast<int>(std::max<std::int64_t>(0, std::min(share, extent - i * share))));
  std::int64_t all = 0;
  for (const int size : given) {
    require(size >= 0, "one of its parts has {}", size);
    all += size;
  }
  require(given.size() == parts && all == extent, "its {} parts are {} of {}", given.size(), all,
          extent);
  return given;
}

OnnxConstantPtr onnx_shape(std::span<const std::int64_t> shape, const OnnxAttributes& attributes) {
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto place = [&](const char* name, std::int64_t otherwise) {
    const std::int64_t at = attributes.integer(name, otherwise);
    return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const std::int64_t start = place("start", 0), end = std::max(start, place("end", rank));
  return onnx_integers({shape.begin() + start, shape.begin() + end});
}

int onnx_axis(std::int64_t axis, std::size_t rank) {
  const auto count = static_cast<std::int64_t>(rank);
  require(axis >= -count && axis < count, "axis {} is none of {}", axis, rank);
  return static_cast<int>(axis < 0 ? axis + count : axis);
}

}  // namespace tessera
