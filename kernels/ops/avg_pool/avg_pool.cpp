#include "kernels/ops/avg_pool/avg_pool.h"

#include "kernels/pool.h"

namespace tessera {

std::vector<TensorType> infer(const AvgPool& op, Types inputs) {
  return {pool_type("avg_pool", op.window, op.ceil_mode, inputs)};
}

std::vector<Parameter> parameters(const AvgPool&, Types) {
  return {};
}

Cost cost(const AvgPool& op, Types inputs) {
  const double outputs = static_cast<double>(infer(op, inputs)[0].shape.elements());
  const double taps = static_cast<double>(op.window.kernel[0]) * op.window.kernel[1];
  return {taps * outputs, bytes_moved(op, inputs)};  // taps - 1 sums and a product
}

namespace {

// A last window that leaves the padding counts fewer pixels than its pads would say.
bool counts_alike(const AvgPool& op) {
  return !op.ceil_mode || !op.count_include_pad;
}

}  // namespace

Extent extent(const AvgPool& op, const Along& along, std::span<const Interval> wanted) {
  return counts_alike(op) ? pool_extent(op.window, along, wanted[0]) : global_extent(along);
}

AvgPool part(const AvgPool& op, const Along& along, Extent& piece) {
  AvgPool result = op;
  if (counts_alike(op)) result.window = pool_part(op.window, along, piece);
  return result;
}

}  // namespace tessera
