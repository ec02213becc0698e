// ONNX's products, reductions, and what moves elements.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;
using Origin = OnnxValue::Origin;

void keep(const OnnxCall& call) {
  call.set(call.map(0));
}

void cast(const OnnxCall& call) {
  constexpr std::int64_t kFloat = 1, kHalf = 10, kDouble = 11, kBrain = 16;
  const std::int64_t to = call.attributes.integer("to", 0);
  const OnnxValue& x = call.map(0);
  const bool is_mask = call.type(x).dtype == DType::kU8;
  const bool to_float = to == kFloat || to == kHalf || to == kDouble || to == kBrain;
  require(is_mask != to_float, "it turns {} into the type {}, which is more than another width",
          name_of(call.type(x).dtype), to);
  call.set(x);
}

void dropout(const OnnxCall& call) {
  require(!call.has(2) || call.constant(2).values() == std::vector<double>{0}, "it is of training");
  call.refuse_outputs_from(1);
  keep(call);
}

// ---- products ----------------------------------------------------------------------------------

// x (..., k) times a constant (k, n), which may be transposed, plus a bias (n).
OnnxValue product(const OnnxCall& call, const OnnxValue& x, const OnnxConstantPtr& matrix,
                  bool transposed, double factor, const OnnxConstantPtr& bias, double bias_factor) {
  require(matrix->shape.size() == 2, "its matrix is {}, expected 2 axes",
          shape_text(matrix->shape));
  const std::int64_t n = matrix->shape[transposed ? 0 : 1], k = matrix->shape[transposed ? 1 : 0];
  require(n > 0 && n <= 1 << 24, "its matrix is {}", shape_text(matrix->shape));
  const OnnxValue rows = call.with_last(x, static_cast<int>(x.order.size()) - 1);
  std::map<std::string, OnnxWeight> weights{
      {"weight",
       {matrix, {n, k}, transposed ? std::vector<int>{} : std::vector<int>{1, 0}, factor}}};
  if (bias) weights["bias"] = {bias, {n}, {}, bias_factor};
  return call.add(Linear{static_cast<int>(n), bias != nullptr}, {rows}, rows, std::move(weights));
}

// Of two maps, one of which is a vector in its last axes: products, and their sum.
void mat_mul_maps(const OnnxCall& call) {
  const OnnxValue &a = call.map(0), &b = call.map(1);
  const Extents left = call.shape(a), right = call.shape(b);
  const std::size_t rank = left.size();
  require(rank >= 2 && rank == right.size(), "it multiplies maps {} and {}", shape_text(left),
          shape_text(right));
  const std::int64_t rows = left[rank - 2], columns = right[rank - 1], inner = left[rank - 1];
  require(inner == right[rank - 2] && (rows == 1 || columns == 1),
          "it multiplies maps {} and {}, neither of which is a vector", shape_text(left),
          shape_text(right));
  const auto last = static_cast<int>(rank) - 1;
  const auto turned = [&](OnnxValue value) {  // its last two axes in the other order
    for (int& axis : value.order) axis = axis == last ? last - 1 : axis == last - 1 ? last : axis;
    value.origin = nullptr;
    return value;
  };
  // The vector goes where the axis lies that is summed over.
  const OnnxValue product = columns == 1 ? call.combine(Binary::Kind::kMul, a, turned(b))
                                         : call.combine(Binary::Kind::kMul, b, turned(a));
  const int summed = columns == 1 ? last : last - 1;
  const Reduce sum{Reduce::Kind::kSum, {call.place(product, summed)}, true};
  call.set(call.add(sum, {product}, product));
}

void mat_mul(const OnnxCall& call) {
  if (call.input(0).is_map && call.input(1).is_map) return mat_mul_maps(call);
  const OnnxValue& x = call.map(0);
  require(x.order.size() >= 2, "it multiplies {}", shape_text(call.shape(x)));
  call.set(product(call, x, call.constant_ptr(1), false, 1, nullptr, 1));
}

void gemm(const OnnxCall& call) {
  OnnxValue x = call.map(0);
  require(x.order.size() == 2, "it multiplies {}", shape_text(call.shape(x)));
  if (call.attributes.integer("transA", 0) != 0)
    for (int& axis : x.order) axis = 1 - axis;
  const OnnxConstantPtr matrix = call.constant_ptr(1);
  const bool transposed = call.attributes.integer("transB", 0) != 0;
  const double alpha = call.attributes.number("alpha", 1), beta = call.attributes.number("beta", 1);
  const bool is_bias = call.has(2) && call.input(2).constant && matrix->shape.size() == 2 &&
                       call.constant(2).elements() == matrix->shape[transposed ? 0 : 1] &&
                       !call.constant(2).shape.empty() &&
                       call.constant(2).shape.back() == call.constant(2).elements();
  OnnxValue y =
      product(call, x, matrix, transposed, alpha, is_bias ? call.constant_ptr(2) : nullptr, beta);
  if (call.has(2) && !is_bias) {
    require(beta == 1, "its beta is {} for an operand that is no bias", beta);
    y = call.combine(Binary::Kind::kAdd, y, call.input(2));
  }
  call.set(y);
}

// ---- reductions ---------------------------------------------------------------------------------

void reduce_map(const OnnxCall& call, Reduce::Kind kind, const OnnxValue& x) {
  const std::vector<int> given = call.list(1, "axes");
  if (given.empty() && call.attributes.integer("noop_with_empty_axes", 0) != 0) return call.set(x);
  Reduce op{kind, {}, call.attributes.integer("keepdims", 1) != 0};
  std::vector<int> gone;
  for (const int axis : given) {
    gone.push_back(call.axis(x, axis));
    require(std::ranges::count(gone, gone.back()) == 1, "it names axis {} twice", gone.back());
  }
  if (given.empty())
    for (int axis = 0; axis < static_cast<int>(x.order.size()); ++axis) gone.push_back(axis);
  for (const int axis : gone) op.axes.push_back(call.place(x, axis));
  std::ranges::sort(op.axes);
  OnnxValue like = x;
  if (!op.keepdims) {
    like.order.clear();
    for (const int axis : x.order) {
      if (std::ranges::count(gone, axis) > 0) continue;
      const auto before = std::ranges::count_if(gone, [&](int other) { return other < axis; });
      like.order.push_back(axis - static_cast<int>(before));
    }
  }
  call.set(call.add(op, {x}, like));
}

template <Reduce::Kind kind>
void reduce(const OnnxCall& call) {
  reduce_map(call, kind, call.map(0));
}

// ---- shapes ------------------------------------------------------------------------------------

void transpose(const OnnxCall& call) {
  OnnxValue x = call.map(0);
  std::vector<int> perm(x.order.size());
  std::iota(perm.rbegin(), perm.rend(), 0);
  perm = call.attributes.integers("perm", perm);
  std::vector<int> place(perm.size(), -1);  // of x's axes in the result
  require(perm.size() == x.order.size(), "its order has {} axes of {}", perm.size(),
          x.order.size());
  for (std::size_t i = 0; i < perm.size(); ++i)
    place.at(static_cast<std::size_t>(call.axis(x, perm[i]))) = static_cast<int>(i);
  require(std::ranges::count(place, -1) == 0, "its order does not name each axis once");
  for (int& axis : x.order) axis = place[static_cast<std::size_t>(axis)];
  x.origin = nullptr;
  call.set(x);
}

void reshape_to(const OnnxCall& call, const Extents& shape) {
  const OnnxValue& x = call.map(0);
  const bool was_that = x.origin && (x.origin->kind == Origin::Kind::kGroups ||
                                     x.origin->kind == Origin::Kind::kReshape);
  if (was_that && call.shape(*x.origin->from) == shape) return call.set(*x.origin->from);
  OnnxValue y = call.reshape(x, shape);
  y.origin =
      std::make_shared<Origin>(Origin{Origin::Kind::kReshape, std::make_shared<OnnxValue>(x), {}});
  call.set(y);
}

void reshape(const OnnxCall& call) {
  reshape_to(call, reshaped(call.shape(call.map(0)), call.list(1, "shape"),
                            call.attributes.integer("allowzero", 0) != 0));
}

void expand(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const std::vector<int> wanted = call.constant(1).integers("shape");
  const Extents shape = broadcast_shape(call.shape(x), Extents(wanted.begin(), wanted.end()));
  Extents longer = call.shape(x);
  longer.insert(longer.begin(), shape.size() - longer.size(), 1);
  require(shape == longer, "it repeats {} to {}, which is not supported", shape_text(call.shape(x)),
          shape_text(shape));
  reshape_to(call, shape);
}

void concat(const OnnxCall& call) {
  const OnnxValue& first = call.map(0);
  const int axis = call.axis(first, call.attributes.integer("axis", 0));
  std::vector<OnnxValue> all;
  for (std::size_t i = 0; i < call.inputs(); ++i) {
    require(call.rank(call.map(i)) == first.order.size(), "it joins maps of different ranks");
    all.push_back(call.in_order(call.map(i), first.order));
  }
  if (all.size() == 1) return call.set(first);
  call.set(call.add(Concat{call.place(first, axis)}, all, first));
}

// Elements [start, end) in steps, by the rules of ONNX, along one axis. An end at or behind the
// last element is said as such, and one before it is counted from there: that holds for other sizes
// of the image, too.
void add_span(const OnnxCall& call, const OnnxValue& x, int axis, int start, int end, int step,
              Slice& op) {
  const std::int64_t extent = call.shape(x)[static_cast<std::size_t>(axis)];
  if (step == 1) {
    const auto place = [&](std::int64_t at) {
      return std::clamp<std::int64_t>(at < 0 ? at + extent : at, 0, extent);
    };
    const std::int64_t from = place(start), to = place(end);
    if (from == 0 && to == extent) return;
    require(from < to, "nothing is left of axis {} of {}", axis, shape_text(call.shape(x)));
    // Behind the middle, a place belongs to the end.
    start = static_cast<int>(2 * from > extent ? from - extent : from);
    end = to == extent      ? std::numeric_limits<int>::max()
          : 2 * to > extent ? static_cast<int>(to - extent)
                            : static_cast<int>(to);
  }
  op.starts.push_back(start);
  op.ends.push_back(end);
  op.steps.push_back(step);
  op.axes.push_back(call.place(x, axis));
}

void slice(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const std::vector<int> starts = call.list(1, "starts"), ends = call.list(2, "ends"),
                         axes = call.list(3, "axes"), steps = call.list(4, "steps");
  require(starts.size() == ends.size() && (axes.empty() || axes.size() == starts.size()) &&
              (steps.empty() || steps.size() == starts.size()),
          "its starts, ends, axes and steps are not as many");
  Slice op;
  for (std::size_t i = 0; i < starts.size(); ++i)
    add_span(call, x, call.axis(x, axes.empty() ? static_cast<int>(i) : axes[i]), starts[i],
             ends[i], steps.empty() ? 1 : steps[i], op);
  call.set(op.axes.empty() ? x : call.add(op, {x}, x));
}

void split(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const int axis = call.axis(x, call.attributes.integer("axis", 0));
  const std::int64_t extent = call.shape(x)[static_cast<std::size_t>(axis)];
  const std::vector<int> parts =
      split_sizes(extent, call.node.outputs.size(), call.list(1, "split"));
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    require(parts[i] > 0, "its part {} is empty", i);
    Slice op;
    add_span(call, x, axis, static_cast<int>(begin), static_cast<int>(begin + parts[i]), 1, op);
    const std::string suffix = fmt::format("/{}", i);
    call.set(i, op.axes.empty() ? x : call.add(op, {x}, x, {}, suffix.c_str()));
    begin += parts[i];
  }
}

// Of a map by constant indices that follow each other: a slice.
void gather(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const int axis = call.axis(x, call.attributes.integer("axis", 0));
  const OnnxConstant& indices = call.constant(1);
  std::vector<int> at = indices.integers("indices");
  Extents shape = call.shape(x);
  const auto extent = static_cast<int>(shape[static_cast<std::size_t>(axis)]);
  require(!at.empty() && indices.shape.size() <= 1, "its indices are {}",
          shape_text(indices.shape));
  for (int& index : at) {
    require(index >= -extent && index < extent, "index {} is none of {}", index, extent);
    if (index < 0) index += extent;
  }
  const int step = at.size() > 1 ? at[1] - at[0] : 1;
  for (std::size_t i = 1; i < at.size(); ++i)
    require(step != 0 && at[i] - at[i - 1] == step, "its indices do not follow each other");
  Slice op;
  const int end = at.back() + (step > 0 ? 1 : -1);
  add_span(call, x, axis, at.front(), end < 0 ? std::numeric_limits<int>::min() : end, step, op);
  const OnnxValue y = op.axes.empty() ? x : call.add(op, {x}, x);
  if (!indices.shape.empty()) return call.set(y);
  shape.erase(shape.begin() + axis);
  call.set(call.reshape(y, shape));
}

void pad(const OnnxCall& call) {
  const OnnxValue& x = call.map(0);
  const std::size_t rank = x.order.size();
  const std::string mode = call.attributes.text("mode", "constant");
  Pad op;
  constexpr auto kNames = names_of(Pad::Mode());
  const auto found = std::ranges::find(kNames, mode);
  require(found != kNames.end(), "its mode is {}", mode);
  op.mode = static_cast<Pad::Mode>(found - kNames.begin());
  const std::vector<int> given = call.list(1, "pads");
  std::vector<int> axes;
  if (call.has(3)) {
    for (const int axis : call.constant(3).integers("axes")) axes.push_back(call.axis(x, axis));
  } else {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
  }
  require(given.size() == 2 * axes.size(), "its pads are {} numbers for {} axes", given.size(),
          axes.size());
  if (call.has(2)) {
    const OnnxConstant& value = call.constant(2);
    require(value.elements() == 1, "its value is {}", shape_text(value.shape));
    op.value = value.values()[0];
  } else {
    op.value = call.attributes.number("value", 0);
  }
  op.pads.assign(2 * rank, 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto place = static_cast<std::size_t>(call.place(x, axes[i]));
    op.pads[place] = given[i];
    op.pads[rank + place] = given[axes.size() + i];
  }
  if (std::ranges::count(op.pads, 0) == static_cast<std::ptrdiff_t>(op.pads.size()))
    return call.set(x);
  OnnxValue y = call.add(op, {x}, x);
  if (op.mode == Pad::Mode::kConstant && op.value == 0 && rank == 4) {
    const auto of = [&](int axis, bool behind) {
      return op.pads[static_cast<std::size_t>(call.place(x, axis)) + (behind ? rank : 0)];
    };
    const bool image =
        of(0, false) == 0 && of(0, true) == 0 && of(1, false) == 0 && of(1, true) == 0;
    const std::array pads{of(2, false), of(2, true), of(3, false), of(3, true)};
    if (image && std::ranges::all_of(pads, [](int p) { return p >= 0 && p <= 1 << 20; }))
      y.origin = std::make_shared<Origin>(
          Origin{Origin::Kind::kZeroPad, std::make_shared<OnnxValue>(x), pads});
  }
  call.set(y);
}

// Blocks of channels become blocks of pixels, by moves that name no size of the image.
void depth_to_space(const OnnxCall& call) {
  const OnnxValue x = call.image(call.map(0));
  const Extents shape = call.shape(x);
  const std::int64_t block = call.attributes.integer("blocksize", 0);
  require(block > 0 && block <= 1 << 10 && shape[1] % (block * block) == 0,
          "its blocksize {} does not divide {} channels twice", block, shape[1]);
  const std::string mode = call.attributes.text("mode", "DCR");
  require(mode == "DCR" || mode == "CRD", "its mode is {}", mode);
  const auto b = static_cast<int>(block), c = static_cast<int>(shape[1] / (block * block));
  const bool depth_last = mode == "CRD";
  // (n, h, w, c, b, b) or (n, h, w, b, b, c); then (n, h, b, w, b, c): pairs of axes become one.
  const OnnxValue six =
      call.add(Reshape{depth_last ? std::vector{0, 0, 0, c, b, b} : std::vector{0, 0, 0, b, b, c}},
               {x}, x, {}, "/blocks");
  const OnnxValue rows = call.add(
      Transpose{depth_last ? std::vector{0, 1, 4, 2, 5, 3} : std::vector{0, 1, 3, 2, 4, 5}}, {six},
      x, {}, "/rows");
  const OnnxValue wide = call.add(Reshape{{0, 0, 0, -1, c}}, {rows}, x, {}, "/wide");
  const OnnxValue turned = call.add(Transpose{{0, 3, 1, 2, 4}}, {wide}, x, {}, "/turned");
  const OnnxValue high = call.add(Reshape{{0, 0, -1, c}}, {turned}, x, {}, "/high");
  call.set(call.add(Transpose{{0, 2, 1, 3}}, {high}, x));
}

}  // namespace

const std::map<std::string_view, OnnxOperator>& onnx_moves() {
  static const std::map<std::string_view, OnnxOperator> table{
      {"Cast", cast},
      {"Concat", concat},
      {"DepthToSpace", depth_to_space},
      {"Dropout", dropout},
      {"Expand", expand},
      {"Flatten",
       [](const OnnxCall& c) {
         reshape_to(c, flattened(c.shape(c.map(0)), c.attributes.integer("axis", 1)));
       }},
      {"Gather", gather},
      {"Gemm", gemm},
      {"Identity", keep},
      {"MatMul", mat_mul},
      {"Pad", pad},
      {"ReduceMax", reduce<Reduce::Kind::kMax>},
      {"ReduceMean", reduce<Reduce::Kind::kMean>},
      {"ReduceMin", reduce<Reduce::Kind::kMin>},
      {"ReduceSum", reduce<Reduce::Kind::kSum>},
      {"ReduceSumSquare",
       [](const OnnxCall& c) {
         const OnnxValue& x = c.map(0);
         const OnnxValue square = c.add(Binary{Binary::Kind::kMul}, {x, x}, x, {}, "/square");
         reduce_map(c, Reduce::Kind::kSum, square);
       }},
      {"Reshape", reshape},
      {"Slice", slice},
      {"Split", split},
      {"Squeeze",
       [](const OnnxCall& c) { reshape_to(c, squeezed(c.shape(c.map(0)), c.list(1, "axes"))); }},
      {"Transpose", transpose},
      {"Unsqueeze",
       [](const OnnxCall& c) { reshape_to(c, unsqueezed(c.shape(c.map(0)), c.list(1, "axes"))); }}};
  return table;
}

}  // namespace tessera
