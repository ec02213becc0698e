#include "models/import/contents.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/files/mapped_pages.h"
#include "kernels/cpu/convert.h"
#include "kernels/error.h"
#include "kernels/strides.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;

constexpr std::int64_t kMostElements = std::int64_t{1} << 40;

std::vector<std::int64_t> dense_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) strides[axis] = stride;
  return strides;
}

template <class Stored>
Stored load(const std::byte* from) {
  Stored value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Calls visit(a Stored-to-value function) for the tensor's type.
template <class Visit>
void with_reader(StoredType type, const Visit& visit) {
  switch (type) {
    case StoredType::kBool:
      return visit([](const std::byte* p) { return load<std::uint8_t>(p) != 0; });
    case StoredType::kU8:
      return visit(load<std::uint8_t>);
    case StoredType::kI8:
      return visit(load<std::int8_t>);
    case StoredType::kI16:
      return visit(load<std::int16_t>);
    case StoredType::kI32:
      return visit(load<std::int32_t>);
    case StoredType::kI64:
      return visit(load<std::int64_t>);
    case StoredType::kF16:
      return visit([](const std::byte* p) { return f16_to_f32(load<std::uint16_t>(p)); });
    case StoredType::kBF16:
      return visit([](const std::byte* p) { return bf16_to_f32(load<std::uint16_t>(p)); });
    case StoredType::kF32:
      return visit(load<float>);
    case StoredType::kF64:
      return visit(load<double>);
  }
}

// Of a tensor that is turned, elements that lie side by side in the file go far apart: so many are
// taken together, a line of the cache, which else would be fetched for each of them.
constexpr std::int64_t kSideBySide = 16;

// Writes all elements, in the order of `axes` or as they are, to `out`.
template <class Value>
void read_into(const StoredTensor& tensor, std::span<const int> axes, Value* out) {
  if (tensor.elements() == 0) return;
  const bool as_it_is = axes.empty() && tensor.strides.empty();
  const std::vector<std::int64_t> shape = as_it_is ? std::vector{tensor.elements()} : tensor.shape;
  const std::size_t rank = shape.size();
  const std::vector<std::int64_t> strides =
      tensor.strides.empty() ? dense_strides(shape) : tensor.strides;
  require(rank <= static_cast<std::size_t>(Shape::kMaxRank), "tensor '{}' has {} axes, at most {}",
          tensor.name, rank, Shape::kMaxRank);
  std::vector<std::int64_t> extents(rank);
  std::array<Strides, 2> steps{};  // of the file's elements, and of those of `out`
  for (std::size_t i = 0; i < rank; ++i) {
    const std::size_t axis = axes.empty() ? i : static_cast<std::size_t>(axes[i]);
    extents[i] = shape[axis];
    steps[0][i] = strides[axis];
  }
  const std::vector<std::int64_t> dense = dense_strides(extents);
  std::ranges::copy(dense, steps[1].begin());

  // The axis along which they lie side by side, or the last one.
  std::size_t inner = rank;
  for (std::size_t i = 0; i < rank; ++i)
    if (steps[0][i] == 1 && (inner == rank || extents[i] > extents[inner])) inner = i;
  inner = std::min(inner, rank - 1);
  const std::int64_t length = std::exchange(extents[inner], 1);
  const std::int64_t from_step = steps[0][inner], to_step = steps[1][inner];
  const std::int64_t at_once = to_step == 1 ? length : kSideBySide;
  const auto size = static_cast<std::int64_t>(size_of(tensor.type));
  with_reader(tensor.type, [&](const auto& reader) {
    for (std::int64_t begin = 0; begin < length; begin += at_once) {
      const std::int64_t count = std::min(at_once, length - begin);
      walk(Shape(extents), steps, [&](std::int64_t, const std::array<std::int64_t, 2>& offset) {
        const std::byte* from = tensor.bytes.data() + (offset[0] + begin * from_step) * size;
        Value* const to = out + offset[1] + begin * to_step;
        for (std::int64_t k = 0; k < count; ++k)
          to[k * to_step] = static_cast<Value>(reader(from + k * from_step * size));
      });
    }
  });
}

}  // namespace

std::size_t size_of(StoredType type) {
  constexpr std::size_t kSizes[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  return kSizes[static_cast<std::size_t>(type)];
}

std::string_view name_of(StoredType type) {
  constexpr std::string_view kNames[] = {"bool", "u8",  "i8",   "i16", "i32",
                                         "i64",  "f16", "bf16", "f32", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

std::int64_t StoredTensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

void check_stored(const StoredTensor& tensor) {
  constexpr std::size_t kMostAxes = 64;
  require(tensor.shape.size() <= kMostAxes, "tensor '{}' has {} axes, at most {} are read",
          tensor.name, tensor.shape.size(), kMostAxes);
  const std::string text = shape_text(tensor.shape);
  require(tensor.strides.empty() || tensor.strides.size() == tensor.shape.size(),
          "tensor '{}' of shape {} has {} strides", tensor.name, text, tensor.strides.size());
  bool empty = false;
  std::int64_t room = 1;  // of what is not empty, so that no product of some extents overflows
  for (const std::int64_t extent : tensor.shape) {
    require(extent >= 0, "tensor '{}' has the shape {}", tensor.name, text);
    empty |= extent == 0;
    const std::int64_t factor = std::max<std::int64_t>(extent, 1);
    require(!__builtin_mul_overflow(room, factor, &room) && room <= kMostElements,
            "tensor '{}' is {} {}, but the file holds {} bytes for it", tensor.name,
            name_of(tensor.type), text, tensor.bytes.size());
  }
  for (const std::int64_t stride : tensor.strides)
    require(stride >= 0, "tensor '{}' of shape {} has the negative stride {}", tensor.name, text,
            stride);
  if (empty) return;
  const auto held = static_cast<std::int64_t>(tensor.bytes.size() / size_of(tensor.type));
  const std::int64_t elements = room;
  std::int64_t last = tensor.strides.empty() ? elements - 1 : 0;
  bool fits = true;
  for (std::size_t axis = 0; axis < tensor.strides.size() && fits; ++axis) {
    std::int64_t reach = 0;
    fits = !__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[axis], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  require(fits && last < held, "tensor '{}' is {} {}, but the file holds {} bytes for it",
          tensor.name, name_of(tensor.type), text, tensor.bytes.size());
  // Else little could claim to be much: one element, repeated along axes of stride 0.
  require(elements <= held,
          "tensor '{}' of shape {} has {} elements, but the file holds {}: some are repeated; save "
          "it with .contiguous()",
          tensor.name, text, elements, held);
}

FloatTensor read_floats(const StoredTensor& tensor, std::span<const int> axes) {
  std::vector<std::int64_t> extents = tensor.shape;
  for (std::size_t i = 0; i < axes.size(); ++i)
    extents[i] = tensor.shape.at(static_cast<std::size_t>(axes[i]));
  FloatTensor result{Shape(extents)};
  read_into(tensor, axes, result.values.data());
  release_pages_of(tensor.bytes);
  return result;
}

std::vector<std::int64_t> read_integers(const StoredTensor& tensor) {
  require(!tensor.is_float(), "tensor '{}' is {}, expected whole numbers", tensor.name,
          name_of(tensor.type));
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.elements()));
  read_into(tensor, {}, values.data());
  return values;
}

const StoredTensor* Contents::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

}  // namespace tessera
