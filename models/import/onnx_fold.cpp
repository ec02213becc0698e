#include "models/import/onnx_fold.h"

#include <algorithm>

#include "kernels/error.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

}  // namespace

std::vector<std::size_t> onnx_axes(std::span<const int> axes, std::size_t rank) {
  std::vector<std::size_t> distinct;
  for (const int axis : axes) {
    const auto at = static_cast<std::size_t>(onnx_axis(axis, rank));
    require(std::ranges::count(distinct, at) == 0, "it names axis {} twice", at);
    distinct.push_back(at);
  }
  return distinct;
}

std::shared_ptr<OnnxConstant> onnx_blank(StoredType type, const Extents& shape) {
  const std::int64_t elements = onnx_elements(shape);
  require(elements <= kMostMadeElements, "a constant of {} elements is computed, at most {} are",
          elements, kMostMadeElements);
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = type;
  constant->shape = shape;
  constant->made.resize(static_cast<std::size_t>(elements));
  return constant;
}

Extents onnx_strides(const Extents& shape) {
  Extents steps(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0; step *= shape[i]) steps[i] = step;
  return steps;
}

void onnx_each(const Extents& shape, const Extents& steps, std::int64_t first,
               const std::function<void(std::size_t, std::size_t)>& body) {
  const std::int64_t elements = onnx_elements(shape);
  for (std::int64_t i = 0; i < elements; ++i) {
    std::int64_t rest = i, offset = first;
    for (std::size_t axis = shape.size(); axis-- > 0; rest /= shape[axis])
      offset += rest % shape[axis] * steps[axis];
    body(static_cast<std::size_t>(i), static_cast<std::size_t>(offset));
  }
}

Extents onnx_broadcast_steps(const Extents& from, const Extents& to) {
  const Extents dense = onnx_strides(from);
  Extents steps(to.size());
  for (std::size_t i = 0; i < from.size(); ++i)
    if (from[i] != 1) steps[i + to.size() - from.size()] = dense[i];
  return steps;
}

OnnxConstantPtr onnx_gathered(const OnnxConstant& x, const Extents& shape, const Extents& steps,
                              std::int64_t first) {
  const auto y = onnx_blank(x.type, shape);
  const std::vector<double> values = x.values();
  onnx_each(shape, steps, first,
            [&](std::size_t i, std::size_t from) { y->made[i] = values.at(from); });
  return y;
}

const OnnxConstant& OnnxFold::input(std::size_t i) const {
  require(has(i), "its input {} is missing", i);
  return *inputs[i];
}

OnnxConstantPtr onnx_reshaped(const OnnxConstant& x, Extents shape) {
  require(onnx_elements(shape) == x.elements(), "{} has no room for {} elements", shape_text(shape),
          x.elements());
  auto y = std::make_shared<OnnxConstant>(x);
  y->shape = std::move(shape);
  if (y->stored) y->stored->shape = y->shape;
  return y;
}

OnnxConstantPtr onnx_combined(const OnnxFold& call, double (*function)(double, double)) {
  const OnnxConstant &a = call.input(0), &b = call.input(1);
  const Extents shape = broadcast_shape(a.shape, b.shape);
  const auto y = onnx_blank(a.type, shape);
  const std::vector<double> left = a.values(), right = b.values();
  onnx_each(shape, onnx_broadcast_steps(a.shape, shape), 0,
            [&](std::size_t i, std::size_t from) { y->made[i] = left.at(from); });
  onnx_each(shape, onnx_broadcast_steps(b.shape, shape), 0, [&](std::size_t i, std::size_t from) {
    y->made[i] = function(y->made[i], right.at(from));
  });
  return y;
}

OnnxConstantPtr onnx_compared(const OnnxFold& call, double (*function)(double, double)) {
  const OnnxConstantPtr y = onnx_combined(call, function);
  const auto made = std::make_shared<OnnxConstant>(*y);
  made->type = StoredType::kBool;
  return made;
}

OnnxConstantPtr onnx_mapped(const OnnxFold& call, double (*function)(double)) {
  const OnnxConstant& x = call.input(0);
  const auto y = onnx_blank(x.type, x.shape);
  const std::vector<double> values = x.values();
  std::transform(values.begin(), values.end(), y->made.begin(), function);
  return y;
}

OnnxConstantPtr onnx_reduced(const OnnxFold& call, double start,
                             double (*function)(double, double)) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> axes = call.list(1, "axes");
  const bool keeps = call.attributes.integer("keepdims", 1) != 0;
  if (axes.empty() && call.attributes.integer("noop_with_empty_axes", 0) != 0)
    return call.inputs[0];
  std::vector<bool> gone(x.shape.size(), axes.empty());
  for (const int axis : axes)
    gone[static_cast<std::size_t>(onnx_axis(axis, x.shape.size()))] = true;
  Extents kept = x.shape, shape;
  for (std::size_t i = 0; i < x.shape.size(); ++i) {
    if (gone[i]) kept[i] = 1;
    if (!gone[i] || keeps) shape.push_back(kept[i]);
  }
  const auto y = onnx_blank(x.type, shape);
  std::ranges::fill(y->made, start);
  const std::vector<double> values = x.values();
  onnx_each(x.shape, onnx_broadcast_steps(kept, x.shape), 0, [&](std::size_t from, std::size_t to) {
    y->made.at(to) = function(y->made.at(to), values[from]);
  });
  return y;
}

}  // namespace tessera
