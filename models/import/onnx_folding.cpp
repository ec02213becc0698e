// What nodes make of constants alone: exporters compute shapes with the operators of maps.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "kernels/error.h"
#include "models/import/onnx_fold.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

OnnxConstantPtr quotient(const OnnxFold& call) {
  if (call.input(0).is_float())
    return onnx_combined(call, [](double a, double b) { return a / b; });
  return onnx_combined(call, [](double a, double b) {
    require(b != 0, "a whole number is divided by 0");
    return std::trunc(a / b);
  });
}

OnnxConstantPtr cast(const OnnxFold& call) {
  constexpr std::int64_t kFloat = 1, kBool = 9, kHalf = 10, kDouble = 11, kBrain = 16;
  const std::int64_t to = call.attributes.integer("to", kFloat);
  const bool is_float = to == kFloat || to == kHalf || to == kDouble || to == kBrain;
  const OnnxConstant& x = call.input(0);
  if (x.stored && is_float && x.is_float()) return call.inputs[0];
  const auto y = onnx_blank(is_float      ? StoredType::kF32
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
  const auto y = onnx_blank(type, {wanted.begin(), wanted.end()});
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
  const auto y = onnx_blank(call.input(0).type, {static_cast<std::int64_t>(count)});
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
  const auto y = onnx_blank(x.type, shape);
  const std::vector<double> at = indices.values();
  // Of a table in the file the rows that are wanted are read alone.
  const bool is_table =
      x.stored && x.stored->strides.empty() && axis == 0 && x.shape.size() > 1 && x.shape[0] > 0;
  const std::vector<double> values = is_table ? std::vector<double>() : x.values();
  std::map<std::int64_t, std::vector<double>> rows;
  const auto row_of = [&](std::int64_t index) -> const std::vector<double>& {
    const auto [row, is_new] = rows.try_emplace(index);
    if (is_new) {
      OnnxConstant part = x;
      const std::size_t bytes = x.stored->bytes.size() / static_cast<std::size_t>(x.shape[0]);
      part.shape.erase(part.shape.begin());
      part.stored->shape = part.shape;
      part.stored->bytes = x.stored->bytes.subspan(static_cast<std::size_t>(index) * bytes, bytes);
      row->second = part.values();
    }
    return row->second;
  };
  const std::int64_t inner = onnx_strides(x.shape)[axis], extent = x.shape[axis];
  const auto count = static_cast<std::int64_t>(at.size());
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(y->made.size()); ++i) {
    const double wanted = at.at(static_cast<std::size_t>(i / inner % count));
    require(wanted >= -static_cast<double>(extent) && wanted < static_cast<double>(extent),
            "index {} is none of {}", wanted, extent);
    const std::int64_t index = static_cast<std::int64_t>(wanted) + (wanted < 0 ? extent : 0);
    const std::int64_t outer = i / inner / count;
    y->made[static_cast<std::size_t>(i)] =
        is_table
            ? row_of(index).at(static_cast<std::size_t>(i % inner))
            : values.at(static_cast<std::size_t>((outer * extent + index) * inner + i % inner));
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
  onnx_axes(axes, x.shape.size());
  Extents shape = x.shape, moves = onnx_strides(x.shape);
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
  return onnx_gathered(x, shape, moves, first);
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
  const auto y = onnx_blank(call.input(0).type, shape);
  const Extents steps = onnx_strides(shape);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const std::vector<double> values = call.input(i).values();
    onnx_each(call.input(i).shape, steps, first,
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
  const Extents steps = onnx_strides(x.shape);
  Extents shape, moves;
  for (const std::size_t axis : onnx_axes(order, x.shape.size())) {
    shape.push_back(x.shape[axis]);
    moves.push_back(steps[axis]);
  }
  require(order.size() == x.shape.size(), "its order names {} axes of {}", order.size(),
          x.shape.size());
  return onnx_gathered(x, shape, moves);
}

OnnxConstantPtr expand(const OnnxFold& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> wanted = call.input(1).integers("shape");
  const Extents shape = broadcast_shape(x.shape, Extents(wanted.begin(), wanted.end()));
  return onnx_gathered(x, shape, onnx_broadcast_steps(x.shape, shape));
}

OnnxConstantPtr where(const OnnxFold& call) {
  const OnnxConstant &condition = call.input(0), &a = call.input(1), &b = call.input(2);
  const Extents shape = broadcast_shape(condition.shape, broadcast_shape(a.shape, b.shape));
  const auto y = onnx_blank(a.type, shape);
  const OnnxConstantPtr chosen = onnx_gathered(condition, shape,
                                               onnx_broadcast_steps(condition.shape, shape)),
                        left = onnx_gathered(a, shape, onnx_broadcast_steps(a.shape, shape)),
                        right = onnx_gathered(b, shape, onnx_broadcast_steps(b.shape, shape));
  for (std::size_t i = 0; i < y->made.size(); ++i)
    y->made[i] = chosen->made[i] != 0 ? left->made[i] : right->made[i];
  return y;
}

using Evaluator = OnnxConstantPtr (*)(const OnnxFold&);

const std::map<std::string_view, Evaluator>& evaluators() {
  static const std::map<std::string_view, Evaluator> table{
      {"Abs",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return std::abs(x); }); }},
      {"Add",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return a + b; });
       }},
      {"Cast", cast},
      {"CastLike",
       [](const OnnxFold& c) {
         c.input(0);
         return c.inputs[0];
       }},
      {"Ceil",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return std::ceil(x); }); }},
      {"Concat", concat},
      {"Constant", constant_node},
      {"ConstantOfShape", constant_of_shape},
      {"Div", quotient},
      {"Equal",
       [](const OnnxFold& c) {
         return onnx_compared(c, [](double a, double b) { return a == b ? 1.0 : 0.0; });
       }},
      {"Exp",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return std::exp(x); }); }},
      {"Expand", expand},
      {"Floor",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return std::floor(x); }); }},
      {"Gather", gather},
      {"Greater",
       [](const OnnxFold& c) {
         return onnx_compared(c, [](double a, double b) { return a > b ? 1.0 : 0.0; });
       }},
      {"Identity",
       [](const OnnxFold& c) {
         c.input(0);
         return c.inputs[0];
       }},
      {"Less",
       [](const OnnxFold& c) {
         return onnx_compared(c, [](double a, double b) { return a < b ? 1.0 : 0.0; });
       }},
      {"Max",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return std::max(a, b); });
       }},
      {"Min",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return std::min(a, b); });
       }},
      {"Mod",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) {
           require(b != 0, "a remainder of 0 is taken");
           return a - std::floor(a / b) * b;
         });
       }},
      {"Mul",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return a * b; });
       }},
      {"Neg", [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return -x; }); }},
      {"Not",
       [](const OnnxFold& c) {
         return onnx_mapped(c, [](double x) { return x == 0 ? 1.0 : 0.0; });
       }},
      {"Pow",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return std::pow(a, b); });
       }},
      {"Range", range},
      {"Reciprocal",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return 1 / x; }); }},
      {"ReduceProd",
       [](const OnnxFold& c) {
         return onnx_reduced(c, 1, [](double a, double b) { return a * b; });
       }},
      {"ReduceSum",
       [](const OnnxFold& c) {
         return onnx_reduced(c, 0, [](double a, double b) { return a + b; });
       }},
      {"Reshape",
       [](const OnnxFold& c) {
         return onnx_reshaped(c.input(0), reshaped(c.input(0).shape, c.list(1, "shape"),
                                                   c.attributes.integer("allowzero", 0) != 0));
       }},
      {"Slice", slice},
      {"Sqrt",
       [](const OnnxFold& c) { return onnx_mapped(c, [](double x) { return std::sqrt(x); }); }},
      {"Squeeze",
       [](const OnnxFold& c) {
         return onnx_reshaped(c.input(0), squeezed(c.input(0).shape, c.list(1, "axes")));
       }},
      {"Sub",
       [](const OnnxFold& c) {
         return onnx_combined(c, [](double a, double b) { return a - b; });
       }},
      {"Transpose", transpose},
      {"Unsqueeze",
       [](const OnnxFold& c) {
         return onnx_reshaped(c.input(0), unsqueezed(c.input(0).shape, c.list(1, "axes")));
       }},
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
