#include "kernels/ops/conv/conv.h"

#include "kernels/check.h"

#include "kernels/ops/conv/geometry.h"

namespace tessera {

namespace {

void check_attributes(const Conv& op) {
  require(op.kernel == 1 || op.kernel == 3, "conv: kernel must be 1 or 3, not {}", op.kernel);
  require(op.c_out > 0, "conv: c_out must be positive, not {}", op.c_out);
  require(is_float(op.dtype), "conv: outputs are f32, bf16 or f16, not {}", name_of(op.dtype));
  if (op.technique == Conv::Technique::kWinograd) {
    require(op.kernel == 3 && op.dtype == DType::kF32,
            "conv: Winograd needs a 3x3 kernel and f32, not {}x{} and {}; use the direct technique",
            op.kernel, op.kernel, name_of(op.dtype));
  }
}

void check_input(const Conv& op, const TensorType& type) {
  require(type.shape.rank() == 4 && is_float(type.dtype),
          "conv: the input must be f32, bf16 or f16 (n, h, w, c), not {}", type.to_string());
  for (std::int64_t extent : type.shape.dims())
    require(extent > 0, "conv: the input must not be empty, but is {}", type.to_string());
  require(op.technique != Conv::Technique::kWinograd || type.dtype == DType::kF32,
          "conv: Winograd reads f32, not {}; use the direct technique", type.to_string());
}

}  // namespace

ConvGeometry geometry_of(const Conv& op, Types inputs) {
  check_attributes(op);
  const std::size_t expected = op.concat ? 2 : 1;
  require(inputs.size() == expected, "conv: {} input(s) expected, {} given", expected,
          inputs.size());
  for (const TensorType& type : inputs) check_input(op, type);

  ConvGeometry g;
  if (op.concat) {
    const Shape joined = infer(*op.concat, inputs).front().shape;
    g.n = joined[0], g.h = joined[1], g.w = joined[2], g.c_in = joined[3];
    for (const ConcatSource& source : concat_sources(*op.concat, inputs)) {
      const Shape& shape = inputs[source.input].shape;
      g.sources.push_back({source.input, shape[1], shape[2], shape[3], source.dy, source.dx});
    }
  } else {
    const Shape& x = inputs[0].shape;
    g.n = x[0], g.h = x[1], g.w = x[2], g.c_in = x[3];
    g.sources.push_back({0, g.h, g.w, g.c_in, 0, 0});
  }
  switch (op.padding) {
    case Conv::Padding::kValid:
      g.pad = 0;
      break;
    case Conv::Padding::kSame:
      g.pad = op.kernel / 2;
      break;
    case Conv::Padding::kFull:
      g.pad = op.kernel - 1;
      break;
  }
  g.ho = g.h + 2 * g.pad - op.kernel + 1;
  g.wo = g.w + 2 * g.pad - op.kernel + 1;
  g.c_out = op.c_out;
  require(g.ho > 0 && g.wo > 0,
          "conv: a {}x{} kernel without padding needs at least {}x{} pixels, not {}x{}; give a "
          "larger image or tile",
          op.kernel, op.kernel, op.kernel, op.kernel, g.h, g.w);
  require(!op.pool || (g.ho >= 2 && g.wo >= 2),
          "conv: 2x2 pooling needs at least 2x2 pixels, not {}x{}; give a larger image or tile",
          g.ho, g.wo);
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
  std::vector<Parameter> list{{"weight", {g.c_out, g.c_in, op.kernel, op.kernel}}};
  if (op.bias) list.push_back({"bias", {g.c_out}});
  if (op.norm != Conv::Norm::kNone) {
    const TensorType y{op.dtype, {g.n, g.ho, g.wo, g.c_out}};
    for (const Parameter& p : parameters(op.batch_norm, {&y, 1}))
      list.push_back({"norm/" + p.name, p.shape});
  }
  return list;
}

Cost cost(const Conv& op, Types inputs) {
  const ConvGeometry g = geometry_of(op, inputs);
  const double outputs = static_cast<double>(g.n * g.ho * g.wo * g.c_out);
  const double products = static_cast<double>(g.c_in * op.kernel * op.kernel);
  return {2 * outputs * products, bytes_moved(op, inputs)};
}

}  // namespace tessera
