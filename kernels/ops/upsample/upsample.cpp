#include "kernels/ops/upsample/upsample.h"

#include <algorithm>

#include "kernels/check.h"

namespace tessera {

UpsampleAxis upsample_axis(const Upsample& op, std::size_t side, std::int64_t size) {
  return op.piece[side].value_or(UpsampleAxis{size, 0, 0, 2 * size});
}

UpsampleSample upsample_sample(const Upsample& op, std::int64_t i, std::int64_t whole) {
  const std::int64_t over = op.align_corners ? 2 * whole - 1 : 4;
  const std::int64_t part =
      op.align_corners ? i * (whole - 1) : std::max<std::int64_t>(2 * i - 1, 0);
  const std::int64_t first = part / over;
  return {first, std::min(first + 1, whole - 1), part % over, over};
}

std::vector<TensorType> infer(const Upsample& op, Types inputs) {
  require_inputs("upsample", inputs, 1);
  require_image("upsample", inputs[0]);
  const Shape& x = inputs[0].shape;
  const UpsampleAxis rows = upsample_axis(op, 0, x[1]), columns = upsample_axis(op, 1, x[2]);
  return {{inputs[0].dtype, {x[0], rows.size, columns.size, x[3]}}};
}

std::vector<Parameter> parameters(const Upsample&, Types) {
  return {};
}

Cost cost(const Upsample& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  return {9 * outputs, bytes_moved(op, inputs)};  // three interpolations of three operations
}

Extent extent(const Upsample& op, const Along& along, std::span<const Interval> wanted) {
  const Interval y = wanted[0];
  const UpsampleSample first = upsample_sample(op, y.begin, along.inputs[0]);
  const UpsampleSample last = upsample_sample(op, y.end - 1, along.inputs[0]);
  return {{y}, {{first.first, last.second + 1}}};
}

Upsample part(const Upsample& op, const Along& along, Extent& piece) {
  const Interval x = piece.inputs[0], y = piece.outputs[0];
  UpsampleAxis axis{along.inputs[0], x.begin, y.begin, y.size()};
  if (!op.align_corners) {
    // Only the ends differ from elsewhere: pieces between them get equal numbers.
    const std::int64_t shift = std::max<std::int64_t>(x.begin - 1, 0);
    axis.before -= shift;
    axis.first -= 2 * shift;
    axis.whole = std::min(axis.whole - shift, axis.before + x.size() + 1);
  }
  Upsample result = op;
  result.piece[along.side()] = axis;
  return result;
}

}  // namespace tessera
