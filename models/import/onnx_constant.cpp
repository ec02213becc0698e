#include "models/import/onnx_constant.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Type = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

// What nodes make of constants: shapes, and here and there a table or a weight in another order.
constexpr std::int64_t kMostMade = 1 << 24;

std::int64_t product(std::span<const std::int64_t> extents) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents)
    require(extent >= 0 && !__builtin_mul_overflow(elements, extent, &elements),
            "a constant of shape {} is none", shape_text(extents));
  return elements;
}

std::shared_ptr<OnnxConstant> blank(Type type, const Extents& shape) {
  const std::int64_t elements = product(shape);
  require(elements <= kMostMade, "a constant of {} elements is computed, at most {} are", elements,
          kMostMade);
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
  const std::int64_t elements = product(shape);
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

using Arguments = std::span<const OnnxConstantPtr>;

struct Call {
  const OnnxNode& node;
  std::int64_t opset;
  Arguments inputs;
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
  require(product(shape) == x.elements(), "{} has no room for {} elements", shape_text(shape),
          x.elements());
  auto y = std::make_shared<OnnxConstant>(x);
  y->shape = std::move(shape);
  if (y->stored) y->stored->shape = y->shape;
  return y;
}

OnnxConstantPtr binary(const Call& call, double (*function)(double, double)) {
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

OnnxConstantPtr quotient(const Call& call) {
  if (call.input(0).is_float()) return binary(call, [](double a, double b) { return a / b; });
  return binary(call, [](double a, double b) {
    require(b != 0, "a whole number is divided by 0");
    return std::trunc(a / b);
  });
}

OnnxConstantPtr compare(const Call& call, double (*function)(double, double)) {
  const OnnxConstantPtr y = binary(call, function);
  const auto made = std::make_shared<OnnxConstant>(*y);
  made->type = Type::kBool;
  return made;
}

OnnxConstantPtr unary(const Call& call, double (*function)(double)) {
  const OnnxConstant& x = call.input(0);
  const auto y = blank(x.type, x.shape);
  const std::vector<double> values = x.values();
  std::transform(values.begin(), values.end(), y->made.begin(), function);
  return y;
}

OnnxConstantPtr cast(const Call& call) {
  constexpr std::int64_t kFloat = 1, kBool = 9, kHalf = 10, kDouble = 11, kBrain = 16;
  const std::int64_t to = call.attributes.integer("to", kFloat);
  const bool is_float = to == kFloat || to == kHalf || to == kDouble || to == kBrain;
  const OnnxConstant& x = call.input(0);
  if (x.stored && is_float && x.is_float()) return call.inputs[0];
  const auto y = blank(is_float ? Type::kF32 : to == kBool ? Type::kBool : Type::kI64, x.shape);
  const std::vector<double> values = x.values();
  std::transform(values.begin(), values.end(), y->made.begin(), [&](double value) {
    if (is_float) return value;
    require(std::isfinite(value), "{} becomes a whole number", value);
    return to == kBool ? (value != 0 ? 1.0 : 0.0) : std::trunc(value);
  });
  return y;
}

OnnxConstantPtr constant_node(const Call& call) {
  const auto vector_of = [](Type type, std::vector<double> values, bool scalar) {
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
    if (name == "value_float") return vector_of(Type::kF32, attribute.floats, true);
    if (name == "value_floats") return vector_of(Type::kF32, attribute.floats, false);
    if (name == "value_int") return vector_of(Type::kI64, whole, true);
    if (name == "value_ints") return vector_of(Type::kI64, whole, false);
  }
  fail("it holds none of the values that a network computes with (a sparse tensor, or texts)");
}

OnnxConstantPtr constant_of_shape(const Call& call) {
  const std::vector<int> wanted = call.input(0).integers("shape");
  Type type = Type::kF32;
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

OnnxConstantPtr range(const Call& call) {
  const double start = call.input(0).values().at(0), limit = call.input(1).values().at(0),
               delta = call.input(2).values().at(0);
  const double count = std::max(0.0, std::ceil((limit - start) / delta));
  require(delta != 0 && count <= static_cast<double>(kMostMade), "a range of {} elements", count);
  const auto y = blank(call.input(0).type, {static_cast<std::int64_t>(count)});
  for (std::size_t i = 0; i < y->made.size(); ++i)
    y->made[i] = start + static_cast<double>(i) * delta;
  return y;
}

OnnxConstantPtr gather(const Call& call) {
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

OnnxConstantPtr slice(const Call& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> starts = call.list(1, "starts"), ends = call.list(2, "ends"),
                         axes = call.list(3, "axes"), steps = call.list(4, "steps");
  require(starts.size() == ends.size() && (axes.empty() || axes.size() == starts.size()) &&
              (steps.empty() || steps.size() == starts.size()) && starts.size() <= x.shape.size(),
          "its starts, ends, axes and steps are not as many");
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

OnnxConstantPtr concat(const Call& call) {
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

OnnxConstantPtr transpose(const Call& call) {
  const OnnxConstant& x = call.input(0);
  std::vector<int> order(x.shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  order = call.attributes.integers("perm", order);
  const Extents steps = strides(x.shape);
  Extents shape, moves;
  for (const int axis : order) {
    const auto at = static_cast<std::size_t>(onnx_axis(axis, x.shape.size()));
    shape.push_back(x.shape[at]);
    moves.push_back(steps[at]);
  }
  require(order.size() == x.shape.size() && product(shape) == x.elements(),
          "its order does not name each axis once");
  return gathered(x, shape, moves);
}

OnnxConstantPtr unsqueeze(const Call& call) {
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

OnnxConstantPtr squeeze(const Call& call) {
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

OnnxConstantPtr reduce(const Call& call, double start, double (*function)(double, double)) {
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

OnnxConstantPtr expand(const Call& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> wanted = call.input(1).integers("shape");
  const Extents shape = broadcast_shape(x.shape, Extents(wanted.begin(), wanted.end()));
  return gathered(x, shape, broadcast_steps(x.shape, shape));
}

OnnxConstantPtr where(const Call& call) {
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

using Evaluator = OnnxConstantPtr (*)(const Call&);

const std::map<std::string_view, Evaluator>& evaluators() {
  static const std::map<std::string_view, Evaluator> table{
      {"Abs", [](const Call& c) { return unary(c, [](double x) { return std::abs(x); }); }},
      {"Add", [](const Call& c) { return binary(c, [](double a, double b) { return a + b; }); }},
      {"Cast", cast},
      {"CastLike", [](const Call& c) { return c.inputs[0]; }},
      {"Ceil", [](const Call& c) { return unary(c, [](double x) { return std::ceil(x); }); }},
      {"Concat", concat},
      {"Constant", constant_node},
      {"ConstantOfShape", constant_of_shape},
      {"Div", quotient},
      {"Equal",
       [](const Call& c) {
         return compare(c, [](double a, double b) { return a == b ? 1.0 : 0.0; });
       }},
      {"Exp", [](const Call& c) { return unary(c, [](double x) { return std::exp(x); }); }},
      {"Expand", expand},
      {"Floor", [](const Call& c) { return unary(c, [](double x) { return std::floor(x); }); }},
      {"Gather", gather},
      {"Greater",
       [](const Call& c) {
         return compare(c, [](double a, double b) { return a > b ? 1.0 : 0.0; });
       }},
      {"Identity",
       [](const Call& c) {
         c.input(0);
         return c.inputs[0];
       }},
      {"Less",
       [](const Call& c) {
         return compare(c, [](double a, double b) { return a < b ? 1.0 : 0.0; });
       }},
      {"Max",
       [](const Call& c) { return binary(c, [](double a, double b) { return std::max(a, b); }); }},
      {"Min",
       [](const Call& c) { return binary(c, [](double a, double b) { return std::min(a, b); }); }},
      {"Mod",
       [](const Call& c) {
         return binary(c, [](double a, double b) {
           require(b != 0, "a remainder of 0 is taken");
           return a - std::floor(a / b) * b;
         });
       }},
      {"Mul", [](const Call& c) { return binary(c, [](double a, double b) { return a * b; }); }},
      {"Neg", [](const Call& c) { return unary(c, [](double x) { return -x; }); }},
      {"Not", [](const Call& c) { return unary(c, [](double x) { return x == 0 ? 1.0 : 0.0; }); }},
      {"Pow",
       [](const Call& c) { return binary(c, [](double a, double b) { return std::pow(a, b); }); }},
      {"Range", range},
      {"Reciprocal", [](const Call& c) { return unary(c, [](double x) { return 1 / x; }); }},
      {"ReduceProd",
       [](const Call& c) { return reduce(c, 1, [](double a, double b) { return a * b; }); }},
      {"ReduceSum",
       [](const Call& c) { return reduce(c, 0, [](double a, double b) { return a + b; }); }},
      {"Reshape",
       [](const Call& c) {
         return reshape_to(c.input(0), reshaped(c.input(0).shape, c.list(1, "shape"),
                                                c.attributes.integer("allowzero", 0) != 0));
       }},
      {"Slice", slice},
      {"Sqrt", [](const Call& c) { return unary(c, [](double x) { return std::sqrt(x); }); }},
      {"Squeeze", squeeze},
      {"Sub", [](const Call& c) { return binary(c, [](double a, double b) { return a - b; }); }},
      {"Transpose", transpose},
      {"Unsqueeze", unsqueeze},
      {"Where", where}};
  return table;
}

}  // namespace

std::int64_t OnnxConstant::elements() const {
  return product(shape);
}

std::vector<double> OnnxConstant::values() const {
  if (!stored) return made;
  require(elements() <= kMostMade,
          "the constant {} of {} elements is computed with, at most {} are",
          in_quotes(stored->name), elements(), kMostMade);
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
  for (const double value : values())  // of whole numbers, so no NaN is among them
    whole.push_back(static_cast<int>(std::clamp(value, double{std::numeric_limits<int>::min()},
                                                double{std::numeric_limits<int>::max()})));
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

std::optional<std::vector<OnnxConstantPtr>> evaluate(const OnnxNode& node, std::int64_t opset,
                                                     std::span<const OnnxConstantPtr> inputs) {
  const auto found = evaluators().find(node.op);
  if (found == evaluators().end()) return std::nullopt;
  return {{found->second({node, opset, inputs, OnnxAttributes(node)})}};
}

std::vector<std::int64_t> broadcast_shape(std::span<const std::int64_t> a,
                                          std::span<const std::int64_t> b) {
  if (a.size() < b.size()) std::swap(a, b);
  Extents shape(a.begin(), a.end());
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
  const std::int64_t elements = product(shape);
  Extents extents(wanted.begin(), wanted.end());
  std::ptrdiff_t open = -1;
  std::int64_t known = 1;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (extents[i] == 0 && !allow_zero && i < shape.size()) extents[i] = shape[i];
    require(extents[i] >= -1 && (extents[i] != -1 || open < 0), "it asks for the extents ({})",
            shape_text(Extents(wanted.begin(), wanted.end())));
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

int onnx_axis(std::int64_t axis, std::size_t rank) {
  const auto count = static_cast<std::int64_t>(rank);
  require(axis >= -count && axis < count, "axis {} is none of {}", axis, rank);
  return static_cast<int>(axis < 0 ? axis + count : axis);
}

}  // namespace tessera
