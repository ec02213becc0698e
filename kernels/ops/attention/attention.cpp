#include "kernels/ops/attention/attention.h"

#include "kernels/lengths.h"

namespace tessera {

std::vector<TensorType> infer(const Attention& op, Types inputs) {
  require(op.units > 0, "attention: units must be positive, not {}", op.units);
  require(op.eps >= 0, "attention: eps must not be negative, but is {}", op.eps);
  const std::size_t expected = op.masked ? 2 : 1;
  require(inputs.size() == expected, "attention: expected {} inputs ({}), found {}", expected,
          op.masked ? "x, lengths" : "x", inputs.size());
  const TensorType& x = inputs[0];
  require(x.dtype == DType::kF32 && x.shape.rank() >= 2 && x.shape[-1] > 0 && x.shape[-2] > 0,
          "attention: x must be f32 (..., t, d) with t > 0 and d > 0, not {}", x);
  if (op.masked) require_lengths_type("attention", inputs, -2);
  const auto dims = x.shape.dims();
  std::vector<std::int64_t> sums(dims.begin(), dims.end() - 2);
  sums.push_back(op.dense ? infer(*op.dense, inputs.first(1))[0].shape[-1] : dims.back());
  return {{DType::kF32, Shape(sums)}, {DType::kF32, Shape(dims.first(dims.size() - 1))}};
}

std::vector<Parameter> parameters(const Attention& op, Types inputs) {
  const std::int64_t width = op.dense ? op.dense->units : inputs[0].shape[-1];
  std::vector<Parameter> list{
      {"weight", {op.units, width}, Role::kWeight, glorot(width, op.units)},
      bias(op.units),
      {"context", {op.units}, Role::kBias, glorot(op.units, op.units)}};  // no decay
  if (op.dense) {
    for (Parameter& p : parameters(*op.dense, inputs.first(1))) {
      p.name = "dense/" + p.name;
      list.push_back(std::move(p));
    }
  }
  return list;
}

Cost cost(const Attention& op, Types inputs) {
  // Per step: W x, the context's product, and the weighted sum; then the dense layer of the sums,
  // because W D is one matrix and D comes out of the sum.
  const auto elements = static_cast<double>(inputs[0].shape.elements());
  const double steps = elements / static_cast<double>(inputs[0].shape[-1]);
  double flops = 2 * elements * op.units + 2 * steps * op.units + 2 * elements;
  if (op.dense) flops += 2 * elements / static_cast<double>(inputs[0].shape[-2]) * op.dense->units;
  return {flops, bytes_moved(op, inputs)};
}

Extent extent(const Attention&, const Along& along, std::span<const Interval>) {
  return global_extent(along);
}

Attention part(const Attention& op, const Along&, Extent&) {
  return op;
}

}  // namespace tessera
