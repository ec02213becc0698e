#include "kernels/ops/conv/fold.h"

#include "kernels/cpu/convert.h"
#include "kernels/ops/activation/slopes.h"

namespace tessera {

namespace {

constexpr std::size_t kMaxLanes = 16;  // floats of the widest vector

std::vector<float> padded(const std::vector<double>& values) {
  std::vector<float> result((values.size() + kMaxLanes - 1) / kMaxLanes * kMaxLanes, 0.0f);
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = static_cast<float>(values[i]);
  return result;
}

Affine norm_of(const Conv& op, std::span<const TensorView> weights) {
  return affine_of(op.batch_norm, weights.subspan(op.bias ? 2 : 1, 4));
}

}  // namespace

FoldedWeights::FoldedWeights(const Conv& op, const ConvGeometry& geometry,
                             std::span<const TensorView> weights)
    : c_in_(geometry.c_in / op.groups),
      rows_(op.window.kernel[0]),
      columns_(op.window.kernel[1]),
      widened_(weights[0].type.dtype == DType::kF32 ? std::vector<float>() : to_f32(weights[0])),
      weight_(weights[0].type.dtype == DType::kF32 ? weights[0].as<float>() : widened_.data()),
      factor_(static_cast<std::size_t>(geometry.c_out), 1.0) {
  if (op.norm == Conv::Norm::kBeforeRelu) factor_ = norm_of(op, weights).scale;
}

ConvEpilogue epilogue_of(const Conv& op, const ConvGeometry& geometry,
                         std::span<const TensorView> weights) {
  std::vector<double> bias(static_cast<std::size_t>(geometry.c_out), 0.0);
  for (std::size_t o = 0; op.bias && o < bias.size(); ++o)
    bias[o] = element_f32(weights[1], static_cast<std::int64_t>(o));

  ConvEpilogue epilogue;
  epilogue.relu = op.relu;
  if (op.norm == Conv::Norm::kBeforeRelu) {
    const Affine norm = norm_of(op, weights);
    for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = bias[o] * norm.scale[o] + norm.shift[o];
  } else if (op.norm == Conv::Norm::kAfterRelu) {
    const Affine norm = norm_of(op, weights);
    epilogue.scale = padded(norm.scale);
    epilogue.shift = padded(norm.shift);
  }
  epilogue.bias = padded(bias);
  epilogue.added = op.epilogue;
  if (op.epilogue.activation)
    epilogue.slopes = slopes_of(*op.epilogue.activation, &weights.back(), bias.size());
  return epilogue;
}

}  // namespace tessera
