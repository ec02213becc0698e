#include "kernels/ops/batch_norm/batch_norm.h"

#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"

namespace tessera {

Affine affine_of(const BatchNorm& op, std::span<const TensorView> weights) {
  require(weights.size() == 4,
          "batch_norm has 4 weight tensors (weight, bias, running_mean, running_var), but got {}: "
          "pass all of them",
          weights.size());
  const std::vector<float> gamma = to_f32(weights[0]), beta = to_f32(weights[1]),
                           mean = to_f32(weights[2]), variance = to_f32(weights[3]);
  Affine affine;
  for (std::size_t k = 0; k < gamma.size(); ++k) {
    const double spread = static_cast<double>(variance[k]) + op.eps;
    require(spread > 0,
            "batch_norm takes running_var + eps > 0, but channel {} has {} + {}: the model file is "
            "damaged, or exported with another eps",
            k, variance[k], op.eps);
    const double scale = gamma[k] / std::sqrt(spread);
    affine.scale.push_back(scale);
    affine.shift.push_back(beta[k] - mean[k] * scale);
  }
  return affine;
}

std::vector<TensorType> infer(const BatchNorm& op, Types inputs) {
  require_inputs("batch_norm", inputs, 1);
  require_channels("batch_norm", inputs[0]);
  require(op.eps >= 0, "batch_norm takes eps >= 0, but got {}: correct the model", op.eps);
  return {inputs[0]};
}

std::vector<Parameter> parameters(const BatchNorm&, Types inputs) {
  require_inputs("batch_norm", inputs, 1);
  require_channels("batch_norm", inputs[0]);
  const std::int64_t c = inputs[0].shape[-1];
  return {{"weight", {c}, Role::kScale, constant(1)},
          {"bias", {c}, Role::kShift, constant(0)},
          {"running_mean", {c}, Role::kStatistic, constant(0)},
          {"running_var", {c}, Role::kStatistic, constant(1)}};
}

Cost cost(const BatchNorm& op, Types inputs) {
  return {2 * static_cast<double>(inputs[0].shape.elements()), bytes_moved(op, inputs)};
}

Extent extent(const BatchNorm&, const Along& along, std::span<const Interval> wanted) {
  return elementwise_extent(along, wanted);
}

BatchNorm part(const BatchNorm& op, const Along&, Extent& piece) {
  take_all(piece);
  return op;
}

}  // namespace tessera
