#include "kernels/ops/conv/conv.h"

#include "kernels/check.h"

#include "kernels/ops/conv/geometry.h"

namespace tessera {

namespace {

void check_attributes(const Conv& op) {
  const Window& w = op.window;
  for (const int value : {w.kernel[0], w.kernel[1], w.stride[0], w.stride[1], w.dilation[0],
                          w.dilation[1], op.groups, op.c_out})
    require(value > 0, "conv: kernel, stride, dilation, groups and c_out must be positive, not {}",
            value);
  require(op.c_out % op.groups == 0, "conv: {} output channels do not divide into {} groups",
          op.c_out, op.groups);
  require(is_float(op.dtype), "conv: outputs are f32, bf16 or f16, not {}", name_of(op.dtype));
  if (op.technique == Conv::Technique::kWinograd) {
    require(is_winograd(op),
            "conv: Winograd needs a dense 3x3 kernel and f32, not {}x{} and {}; use the direct "
            "technique",
            w.kernel[0], w.kernel[1], name_of(op.dtype));
    require(!op.epilogue.residual, "conv: Winograd adds no residual; use the direct technique");
  }
}

void check_input(const Conv& op, const TensorType& type) {
  require(type.shape.rank() == 4 && is_float(type.dtype),
          "conv: the input must be f32, bf16 or f16 (n, h, w, c), not {}", type);
  for (std::int64_t extent : type.shape.dims())
    require(extent > 0, "conv: the input must not be empty, but is {}", type);
  require(op.technique != Conv::Technique::kWinograd || type.dtype == DType::kF32,
          "conv: Winograd reads f32, not {}; use the direct technique", type);
}

// What outputs `y` read of the joined map: of a Winograd tile everything, even where y ends early.
Interval reads(const Conv& op, std::size_t side, Interval y) {
  if (op.technique == Conv::Technique::kWinograd)
    y.end = (y.end + kWinogradTile - 1) / kWinogradTile * kWinogradTile;
  return op.window.reads(side, y);
}

std::int64_t joined_size(const Conv& op, const Along& along) {
  if (!op.concat) return along.inputs[0];
  return concat_axis(*op.concat, along.side(), along.inputs[0], along.inputs[1]).size;
}

}  // namespace

bool is_pointwise(const Conv& op) {
  return op.window == square(1) && op.groups == 1;
}

bool is_winograd(const Conv& op) {
  return op.window.is_square(3) && op.window.is_dense() && op.groups == 1 &&
         op.dtype == DType::kF32;
}

ConvGeometry geometry_of(const Conv& op, Types inputs) {
  check_attributes(op);
  const std::size_t maps = op.concat ? 2 : 1, expected = maps + (op.epilogue.residual ? 1 : 0);
  require(inputs.size() == expected, "conv: {} input(s) expected, {} given", expected,
          inputs.size());
  for (const TensorType& type : inputs.first(maps)) check_input(op, type);

  ConvGeometry g;
  if (op.concat) {
    const Shape joined = infer(*op.concat, inputs.first(maps)).front().shape;
    g.n = joined[0], g.h = joined[1], g.w = joined[2], g.c_in = joined[3];
    for (const ConcatSource& source : concat_sources(*op.concat, inputs.first(maps))) {
      const Shape& shape = inputs[source.input].shape;
      g.sources.push_back({source.input, shape[1], shape[2], shape[3], source.dy, source.dx});
    }
  } else {
    const Shape& x = inputs[0].shape;
    g.n = x[0], g.h = x[1], g.w = x[2], g.c_in = x[3];
    g.sources.push_back({0, g.h, g.w, g.c_in, 0, 0});
  }
  require(g.c_in % op.groups == 0, "conv: {} input channels do not divide into {} groups", g.c_in,
          op.groups);
  g.window = op.window;
  g.top = op.window.before(0), g.left = op.window.before(1);
  g.ho = op.window.outputs(0, g.h), g.wo = op.window.outputs(1, g.w);
  g.c_out = op.c_out;
  require(g.ho > 0 && g.wo > 0,
          "conv: its window needs at least {}x{} pixels, not {}x{}; give a larger image or tile",
          op.window.reach(0) - op.window.before(0) - op.window.behind(0),
          op.window.reach(1) - op.window.before(1) - op.window.behind(1), g.h, g.w);
  require(!op.pool || (g.ho >= 2 && g.wo >= 2),
          "conv: 2x2 pooling needs at least 2x2 pixels, not {}x{}; give a larger image or tile",
          g.ho, g.wo);
  check_epilogue("conv", op.epilogue, {op.dtype, {g.n, g.ho, g.wo, g.c_out}}, inputs);
  return g;
}

std::vector<TensorType> infer(const Conv& op, Types inputs) {
  const ConvGeometry g = geometry_of(op, inputs);
  std::vector<TensorType> outputs{{op.dtype, {g.n, g.ho, g.wo, g.c_out}}};
  if (op.pool) outputs.push_back({op.dtype, {g.n, g.ho / 2, g.wo / 2, g.c_out}});
  return outputs;
}

std::vector<Parameter> parameters(const Conv& op, Types inputs) {
  const ConvGeometry g = geometry_of(op, inputs);
  const std::int64_t c_in = g.c_in / op.groups;
  const Shape shape{g.c_out, c_in, op.window.kernel[0], op.window.kernel[1]};
  std::vector<Parameter> list{
      {"weight", shape, Role::kWeight, he(static_cast<double>(shape.elements(1, 4)))}};
  if (op.bias) list.push_back(bias(g.c_out));
  const TensorType y{op.dtype, {g.n, g.ho, g.wo, g.c_out}};
  if (op.norm != Conv::Norm::kNone) {
    for (Parameter& p : parameters(op.batch_norm, {&y, 1})) {
      p.name = "norm/" + p.name;
      list.push_back(std::move(p));
    }
  }
  add_parameters(op.epilogue, y, list);
  return list;
}

Cost cost(const Conv& op, Types inputs) {
  const ConvGeometry g = geometry_of(op, inputs);
  const double outputs = static_cast<double>(g.n * g.ho * g.wo * g.c_out);
  const double products =
      static_cast<double>(g.c_in / op.groups) * op.window.kernel[0] * op.window.kernel[1];
  return {2 * outputs * products, bytes_moved(op, inputs)};
}

Extent extent(const Conv& op, const Along& along, std::span<const Interval> wanted) {
  Interval y = wanted[0];
  if (op.pool && !wanted[1].is_empty()) y = hull(y, {2 * wanted[1].begin, 2 * wanted[1].end});
  const bool winograd = op.technique == Conv::Technique::kWinograd;
  const std::int64_t group = winograd ? kWinogradTile : op.pool ? 2 : 1;
  y = grow(y, group, along.outputs[0]);
  if (op.pool && y.size() < 2) y.begin -= group;  // the odd last one: a pool needs two
  Extent piece{{y}, {}};
  if (op.pool) piece.outputs.push_back({y.begin / 2, y.end / 2});
  const std::int64_t size = joined_size(op, along);
  const Interval x = clip(reads(op, along.side(), y), size);
  if (!op.concat) {
    piece.inputs = {x};
  } else {
    piece.inputs = extent(*op.concat, {along.axis, along.inputs, {&size, 1}}, {&x, 1}).inputs;
  }
  if (op.epilogue.residual) piece.inputs.push_back(y);
  return piece;
}

Conv part(const Conv& op, const Along& along, Extent& piece) {
  Conv result = op;
  const std::size_t side = along.side();
  const Interval y = piece.outputs[0];
  Interval x = piece.inputs[0];
  if (op.concat) {
    const std::int64_t size = joined_size(op, along);
    x = clip(reads(op, side, y), size);
    Extent joined{{x}, piece.inputs};
    result.concat = part(*op.concat, {along.axis, along.inputs, {&size, 1}}, joined);
  }
  result.window = op.window.piece(side, y, x);
  if (op.epilogue.residual) result.epilogue.offset[side] = y.begin - piece.inputs.back().begin;
  return result;
}

}  // namespace tessera
