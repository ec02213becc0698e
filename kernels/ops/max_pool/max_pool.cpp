#include "kernels/ops/max_pool/max_pool.h"

#include "kernels/pool.h"

namespace tessera {

std::vector<TensorType> infer(const MaxPool& op, Types inputs) {
  return {pool_type("max_pool", op.window, op.ceil_mode, inputs)};
}

std::vector<Parameter> parameters(const MaxPool&, Types) {
  return {};
}

Cost cost(const MaxPool& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  const double taps = static_cast<double>(op.window.kernel[0]) * op.window.kernel[1];
  return {(taps - 1) * outputs, bytes_moved(op, inputs)};  // a comparison each
}

Extent extent(const MaxPool& op, const Along& along, std::span<const Interval> wanted) {
  return pool_extent(op.window, along, wanted[0]);
}

MaxPool part(const MaxPool& op, const Along& along, Extent& piece) {
  if (is_halving(op)) {  // It takes whole pairs and makes one of each: the kernels have no pads.
    Interval& x = piece.inputs[0];
    x.begin -= x.begin % 2;
    piece.outputs[0] = {x.begin / 2, x.end / 2};
    return op;
  }
  return {.window = pool_part(op.window, along, piece), .ceil_mode = op.ceil_mode};
}

}  // namespace tessera
