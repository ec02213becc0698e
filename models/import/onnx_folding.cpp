// What nodes make of constants alone: exporters compute shapes with the operators of maps.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "kernels/error.h"
#include "models/import/onnx_constant.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

// Axes of `rank`, each at most once.
std::vector<std::size_t> distinct_axes(std::span<const int> axes, std::size_t rank) {
  std::vector<std::size_t> distinct;
  for (const int axis : axes) {
    const auto at = static_cast<std::size_t>(onnx_axis(axis, rank));
    require(std::ranges::count(distinct, at) == 0, "it names axis {} twice", at);
    distinct.push_back(at);
  }
  return distinct;
}

std::shared_ptr<OnnxConstant> blank(StoredType type, const Extents& shape) {
  const std::int64_t elements = onnx_elements(shape);
  require(elements <= kMostMadeElements, "a constant of {} elements is computed, at most {} are",
          elements, kMostMadeElements);
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = type;
  constant->shape = shape;
  constant->made.resize(static_cast<std::size_t>(elements));
  return constant;
}

Extents strides(const Extents& shape) {
  Extents steps(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0; step *= shape[i]) steps[i] = step;
  return steps;
}

// Calls body(i, offset) for each element i of `shape`, where offset moves by `steps`.
void each(const Extents& shape, const Extents& steps, std::int64_t first,
          const std::function<void(std::size_t, std::size_t)>& body) {
  const std::int64_t elements = onnx_elements(shape);
  for (std::int64_t i = 0; i < elements; ++i) {
    std::int64_t rest = i, offset = first;
    for (std::size_t axis = shape.size(); axis-- > 0; rest /= shape[axis])
      offset += rest % shape[axis] * steps[axis];
    body(static_cast<std::size_t>(i), static_cast<std::size_t>(offset));
  }
}

// Steps with which a constant of `from` is read as one of `to`.
Extents broadcast_steps(const Extents& from, const Extents& to) {
  const Extents dense = strides(from);
  Extents steps(to.size());
  for (std::size_t i = 0; i < from.size(); ++i)
    if (from[i] != 1) steps[i + to.size() - from.size()] = dense[i];
  return steps;
}

OnnxConstantPtr gathered(const OnnxConstant& x, const Extents& shape, const Extents& steps,
                         std::int64_t first = 0) {
  const auto y = blank(x.type, shape);
  const std::vector<double> values = x.values();
  each(shape, steps, first, [&](std::size_t i, std::size_t from) { y->made[i] = values.at(from); });
  return y;
}

using OnnxArguments = std::span<const OnnxConstantPtr>;

struct OnnxFold {
  const OnnxNode& node;
  std::int64_t opset;
  OnnxArguments inputs;
  OnnxAttributes attributes;

  const OnnxConstant& input(std::size_t i) const {
    require(i < inputs.size() && inputs[i] != nullptr, "its input {} is missing", i);
    return *inputs[i];
  }
  bool has(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  // Numbers that are an input or, in older opsets, an attribute.
  std::vector<int> list(std::size_t i, const std::string& name,
                        std::vector<int> otherwise = {}) const {
    return has(i) ? input(i).integers(name) : attributes.integers(name, std::move(otherwise));
  }
};

OnnxConstantPtr reshape_to(const OnnxConstant& x, Extents shape) {
  require(onnx_elements(shape) == x.elements(), "{} has no room for {} elements", shape_text(shape),
          x.elements());
  auto y = std::make_shared<OnnxConstant>(x);
  y->shape = std::move(shape);
  if (y->stored) y->stored->shape = y->shape;
  return y;
}

OnnxConstantPtr binary(const OnnxFold& call, double (*function)(double, double)) {
  const OnnxConstant &a = call.input(0), &b = call.input(1);
  const Extents shape = broadcast_shape(a.shape, b.shape);
  const auto y = blank(a.type, shape);
  const std::vector<double> left = a.values(), right = b.values();
  each(shape, broadcast_steps(a.shape, shape), 0,
       [&](std::size_t i, std::size_t from) { y->made[i] = left.at(from); });
  each(shape, broadcast_steps(b.shape, shape), 0,
       [&](std::size_t i, std::size_t from) { y->made[i] = function(y->made[i], right.at(from)); });
  return y;
}

OnnxConstantPtr quotient(const OnnxFold& call) {
  if (call.input(0).is_float()) return binary(call, [](double a, double b) { return a / b; });
  return binary(call, [](double a, double b) {
    require(b != 0, "a whole number is divided by 0");
    return std::trunc(a / b);
  });
}

OnnxConstantPtr compare(const OnnxFold& call, double (*function)(double, double)) {
  const OnnxConstantPtr y = binary(call, function);
  const auto made = std::make_shared<OnnxConstant>(*y);
  made->type = StoredType::kBool;
  return made;
}

OnnxConstantPtr unary(const OnnxFold& call, double (*function)(double)) {
  const OnnxConstant& x = call.input(0);
  const auto y = blank(x.type, x.shape);
  const std::vector<double> values = x.values();
  std::transform(values.begin(), values.end(), y->made.begin(), function);
  return y;
}

OnnxConstantPtr cast(const OnnxFold& call) {
  constexpr std::int64_t kFloat = 1, kBool = 9, kHalf = 10, kDouble = 11, kBrain = 16;
  const std::int64_t to = call.attributes.integer("to", kFloat);
  const bool is_float = to == kFloat || to == kHalf || to == kDouble || to == kBrain;
  const OnnxConstant& x = call.input(0);
  if (x.stored && is_float && x.is_float()) return call.inputs[0];
  const auto y = blank(is_float      ? StoredType::kF32
                       : to == kBool ? StoredType::kBool
                                     : StoredType::kI64,
                       x.shape);
  const std::vector<double> values = x.values();
  std::transform(values.begin(), values.end(), y->made.begin(), [&](double value) {
    if (is_float) return value;
    require(std::isfinite(value), "{} becomes a whole number", value);
    return to == kBool ? (value != 0 ? 1.0 : 0.0) : std::trunc(value);
  });
  return y;
}

OnnxConstantPtr constant_node(const OnnxFold& call) {
  const auto vector_of = [](StoredType type, std::vector<double> values, bool scalar) {
    auto constant = std::make_shared<OnnxConstant>();
    constant->type = type;
    if (!scalar) constant->shape = {static_cast<std::int64_t>(values.size())};
    constant->made = std::move(values);
    return constant;
  };
  if (const OnnxAttribute* value = call.attributes.find("value")) {
    require(value->kind == OnnxAttribute::Kind::kTensor, "its value is no dense tensor");
    return onnx_constant(value->tensor);
  }
  for (const auto& [name, attribute] : call.node.attributes) {
    const std::vector<double> whole(attribute.ints.begin(), attribute.ints.end());
    if (name == "value_float") return vector_of(StoredType::kF32, attribute.floats, true);
    if (name == "value_floats") return vector_of(StoredType::kF32, attribute.floats, false);
    if (name == "value_int") return vector_of(StoredType::kI64, whole, true);
    if (name == "value_ints") return vector_of(StoredType::kI64, whole, false);
  }
  fail("it holds none of the values that a network computes with (a sparse tensor, or texts)");
}

OnnxConstantPtr constant_of_shape(const OnnxFold& call) {
  const std::vector<int> wanted = call.input(0).integers("shape");
  StoredType type = StoredType::kF32;
  double value = 0;
  if (const OnnxAttribute* given = call.attributes.find("value")) {
    require(given->kind == OnnxAttribute::Kind::kTensor && given->tensor.elements() == 1,
            "its value is no tensor of one element");
    type = given->tensor.type;
    value = onnx_constant(given->tensor)->values()[0];
  }
  const auto y = blank(type, {wanted.begin(), wanted.end()});
  std::ranges::fill(y->made, value);
  return y;
}

OnnxConstantPtr range(const OnnxFold& call) {
  for (const std::size_t i : {0u, 1u, 2u})
    require(call.input(i).elements() == 1, "its input {} is no single number", i);
  const double start = call.input(0).values()[0], limit = call.input(1).values()[0],
               delta = call.input(2).values()[0];
  const double count = std::max(0.0, std::ceil((limit - start) / delta));
  require(delta != 0 && count <= static_cast<double>(kMostMadeElements), "a range of {} elements",
          count);
  const auto y = blank(call.input(0).type, {static_cast<std::int64_t>(count)});
  for (std::size_t i = 0; i < y->made.size(); ++i)
    y->made[i] = start + static_cast<double>(i) * delta;
  return y;
}

OnnxConstantPtr gather(const OnnxFold& call) {
  const OnnxConstant &x = call.input(0), &indices = call.input(1);
  const auto axis =
      static_cast<std::size_t>(onnx_axis(call.attributes.integer("axis", 0), x.shape.size()));
  Extents shape(x.shape.begin(), x.shape.begin() + static_cast<std::ptrdiff_t>(axis));
  shape.insert(shape.end(), indices.shape.begin(), indices.shape.end());
  shape.insert(shape.end(), x.shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.shape.end());
  const auto y = blank(x.type, shape);
  const std::vector<double> values = x.values(), at = indices.values();
  const std::int64_t inner = strides(x.shape)[axis], extent = x.shape[axis];
  const auto count = static_cast<std::int64_t>(at.size());
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(y->made.size()); ++i) {
    const double wanted = at.at(static_cast<std::size_t>(i / inner % count));
    require(wanted >= -static_cast<double>(extent) && wanted < static_cast<double>(extent),
            "index {} is none of {}", wanted, extent);
    const std::int64_t index = static_cast<std::int64_t>(wanted) + (wanted < 0 ? extent : 0);
    const std::int64_t outer = i / inner / count;
    y->made[static_cast<std::size_t>(i)] =
        values.at(static_cast<std::size_t>((outer * extent + index) * inner + i % inner));
  }
  return y;
}

OnnxConstantPtr slice(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> starts = call.list(1, "starts"), ends = call.list(2, "ends"),
                         axes = call.list(3, "axes"), steps = call.list(4, "steps");
  require(starts.size() == ends.size() && (axes.empty() || axes.size() == starts.size()) &&
              (steps.empty() || steps.size() == starts.size()) && starts.size() <= x.shape.size(),
          "its starts, ends, axes and steps are not as many");
  distinct_axes(axes, x.shape.size());
  Extents shape = x.shape, moves = strides(x.shape);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto axis = static_cast<std::size_t>(
        onnx_axis(axes.empty() ? static_cast<int>(i) : axes[i], x.shape.size()));
    const std::int64_t extent = x.shape[axis], step = steps.empty() ? 1 : steps[i];
    require(step != 0, "it steps by 0");
    const auto place = [&](std::int64_t at) {
      return std::clamp<std::int64_t>(at < 0 ? at + extent : at, step > 0 ? 0 : -1,
                                      step > 0 ? extent : extent - 1);
    };
    const std::int64_t start = place(starts[i]), end = place(ends[i]);
    const std::int64_t length = step > 0 ? end - start : start - end, stride = std::abs(step);
    shape[axis] = length <= 0 ? 0 : (length + stride - 1) / stride;
    first += start * moves[axis];
    moves[axis] *= step;
  }
  return gathered(x, shape, moves, first);
}

OnnxConstantPtr concat(const OnnxFold& call) {
  const auto axis = static_cast<std::size_t>(
      onnx_axis(call.attributes.integer("axis", 0), call.input(0).shape.size()));
  Extents shape = call.input(0).shape;
  shape[axis] = 0;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    Extents other = call.input(i).shape;
    require(other.size() == shape.size(), "it joins tensors of different ranks");
    shape[axis] += other[axis];
    other[axis] = shape[axis];
    require(other == shape, "it joins tensors whose other extents differ");
  }
  const auto y = blank(call.input(0).type, shape);
  const Extents steps = strides(shape);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const std::vector<double> values = call.input(i).values();
    each(call.input(i).shape, steps, first,
         [&](std::size_t from, std::size_t to) { y->made.at(to) = values[from]; });
    first += call.input(i).shape[axis] * steps[axis];
  }
  return y;
}

OnnxConstantPtr transpose(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  std::vector<int> order(x.shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  order = call.attributes.integers("perm", order);
  const Extents steps = strides(x.shape);
  Extents shape, moves;
  for (const std::size_t axis : distinct_axes(order, x.shape.size())) {
    shape.push_back(x.shape[axis]);
    moves.push_back(steps[axis]);
  }
  require(order.size() == x.shape.size(), "its order names {} axes of {}", order.size(),
          x.shape.size());
  return gathered(x, shape, moves);
}

OnnxConstantPtr unsqueeze(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> axes = call.list(1, "axes");
  const std::size_t rank = x.shape.size() + axes.size();
  Extents shape(rank, 0);
  for (const int axis : axes) shape[static_cast<std::size_t>(onnx_axis(axis, rank))] = 1;
  auto next = x.shape.begin();
  for (std::int64_t& extent : shape)
    if (extent == 0) extent = next != x.shape.end() ? *next++ : 0;
  return reshape_to(x, shape);
}

OnnxConstantPtr squeeze(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  std::vector<bool> dropped(x.shape.size());
  const std::vector<int> axes = call.list(1, "axes");
  for (std::size_t i = 0; axes.empty() && i < x.shape.size(); ++i) dropped[i] = x.shape[i] == 1;
  for (const int axis : axes)
    dropped[static_cast<std::size_t>(onnx_axis(axis, x.shape.size()))] = true;
  Extents shape;
  for (std::size_t i = 0; i < x.shape.size(); ++i)
    if (!dropped[i]) shape.push_back(x.shape[i]);
  return reshape_to(x, shape);
}

OnnxConstantPtr reduce(const OnnxFold& call, double start, double (*function)(double, double)) {
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
  const auto y = blank(x.type, shape);
  std::ranges::fill(y->made, start);
  const std::vector<double> values = x.values();
  each(x.shape, broadcast_steps(kept, x.shape), 0, [&](std::size_t from, std::size_t to) {
    y->made.at(to) = function(y->made.at(to), values[from]);
  });
  return y;
}

OnnxConstantPtr expand(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> wanted = call.input(1).integers("shape");
  const Extents shape = broadcast_shape(x.shape, Extents(wanted.begin(), wanted.end()));
  return gathered(x, shape, broadcast_steps(x.shape, shape));
}

OnnxConstantPtr where(const OnnxFold& call) {
  const OnnxConstant &condition = call.input(0), &a = call.input(1), &b = call.input(2);
  const Extents shape = broadcast_shape(condition.shape, broadcast_shape(a.shape, b.shape));
  const auto y = blank(a.type, shape);
  const OnnxConstantPtr chosen =
                            gathered(condition, shape, broadcast_steps(condition.shape, shape)),
                        left = gathered(a, shape, broadcast_steps(a.shape, shape)),
                        right = gathered(b, shape, broadcast_steps(b.shape, shape));
  for (std::size_t i = 0; i < y->made.size(); ++i)
    y->made[i] = chosen->made[i] != 0 ? left->made[i] : right->made[i];
  return y;
}

using Evaluator = OnnxConstantPtr (*)(const OnnxFold&);

const std::map<std::string_view, Evaluator>& evaluators() {
  static const std::map<std::string_view, Evaluator> table{
      {"Abs", [](const OnnxFold& c) { return unary(c, [](double x) { return std::abs(x); }); }},
      {"Add",
       [](const OnnxFold& c) { return binary(c, [](double a, double b) { return a + b; }); }},
      {"Cast", cast},
      {"CastLike",
       [](const OnnxFold& c) {
         c.input(0);
         return c.inputs[0];
       }},
      {"Ceil", [](const OnnxFold& c) { return unary(c, [](double x) { return std::ceil(x); }); }},
      {"Concat", concat},
      {"Constant", constant_node},
      {"ConstantOfShape", constant_of_shape},
      {"Div", quotient},
      {"Equal",
       [](const OnnxFold& c) {
         return compare(c, [](double a, double b) { return a == b ? 1.0 : 0.0; });
       }},
      {"Exp", [](const OnnxFold& c) { return unary(c, [](double x) { return std::exp(x); }); }},
      {"Expand", expand},
      {"Floor", [](const OnnxFold& c) { return unary(c, [](double x) { return std::floor(x); }); }},
      {"Gather", gather},
      {"Greater",
       [](const OnnxFold& c) {
         return compare(c, [](double a, double b) { return a > b ? 1.0 : 0.0; });
       }},
      {"Identity",
       [](const OnnxFold& c) {
         c.input(0);
         return c.inputs[0];
       }},
      {"Less",
       [](const OnnxFold& c) {
         return compare(c, [](double a, double b) { return a < b ? 1.0 : 0.0; });
       }},
      {"Max",
       [](const OnnxFold& c) {
         return binary(c, [](double a, double b) { return std::max(a, b); });
       }},
      {"Min",
       [](const OnnxFold& c) {
         return binary(c, [](double a, double b) { return std::min(a, b); });
       }},
      {"Mod",
       [](const OnnxFold& c) {
         return binary(c, [](double a, double b) {
           require(b != 0, "a remainder of 0 is taken");
           return a - std::floor(a / b) * b;
         });
       }},
      {"Mul",
       [](const OnnxFold& c) { return binary(c, [](double a, double b) { return a * b; }); }},
      {"Neg", [](const OnnxFold& c) { return unary(c, [](double x) { return -x; }); }},
      {"Not",
       [](const OnnxFold& c) { return unary(c, [](double x) { return x == 0 ? 1.0 : 0.0; }); }},
      {"Pow",
       [](const OnnxFold& c) {
         return binary(c, [](double a, double b) { return std::pow(a, b); });
       }},
      {"Range", range},
      {"Reciprocal", [](const OnnxFold& c) { return unary(c, [](double x) { return 1 / x; }); }},
      {"ReduceProd",
       [](const OnnxFold& c) { return reduce(c, 1, [](double a, double b) { return a * b; }); }},
      {"ReduceSum",
       [](const OnnxFold& c) { return reduce(c, 0, [](double a, double b) { return a + b; }); }},
      {"Reshape",
       [](const OnnxFold& c) {
         return reshape_to(c.input(0), reshaped(c.input(0).shape, c.list(1, "shape"),
                                                c.attributes.integer("allowzero", 0) != 0));
       }},
      {"Slice", slice},
      {"Sqrt", [](const OnnxFold& c) { return unary(c, [](double x) { return std::sqrt(x); }); }},
      {"Squeeze", squeeze},
      {"Sub",
       [](const OnnxFold& c) { return binary(c, [](double a, double b) { return a - b; }); }},
      {"Transpose", transpose},
      {"Unsqueeze", unsqueeze},
      {"Where", where}};
  return table;
}

}  // namespace

std::optional<std::vector<OnnxConstantPtr>> evaluate(const OnnxNode& node, std::int64_t opset,
                                                     std::span<const OnnxConstantPtr> inputs) {
  const auto found = evaluators().find(node.op);
  if (found == evaluators().end()) return std::nullopt;
  return {{found->second({node, opset, inputs, OnnxAttributes(node)})}};
}

}  // namespace tessera
