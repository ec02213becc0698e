#include "kernels/ops/crop_concat/crop_concat.h"

#include "kernels/check.h"

namespace tessera {

std::array<ConcatSource, 2> concat_sources(const CropConcat& op, Types inputs) {
  require_inputs("crop_concat", inputs, 2);
  for (const TensorType& input : inputs) require_image("crop_concat", input);
  const TensorType &skip = inputs[0], &up = inputs[1];
  require(skip.dtype == up.dtype && skip.shape[0] == up.shape[0],
          "crop_concat joins maps of one type and batch, but skip is {} and up is {}: feed both "
          "from the same run",
          skip.to_string(), up.to_string());
  const std::int64_t dy = skip.shape[1] - up.shape[1], dx = skip.shape[2] - up.shape[2];
  const bool crops = op.align == CropConcat::Align::kCropSkip;
  require(
      dy >= 0 && dx >= 0, "crop_concat cannot {}: skip is {}, but up is larger, {}: {}",
      crops ? "crop the skip map to the up-sampled one" : "pad the up-sampled map to the skip's",
      skip.to_string(), up.to_string(),
      crops ? "check the padding of the convolutions between them, or use a larger image"
            : "check the up-sampling before it, which must not pass the size it came from");
  ConcatSource from_skip{0, 0, 0}, from_up{1, 0, 0};
  if (crops) {
    from_skip.dy = dy / 2;
    from_skip.dx = dx / 2;
  } else {
    from_up.dy = -(dy / 2);
    from_up.dx = -(dx / 2);
  }
  if (op.skip_first) return {from_skip, from_up};
  return {from_up, from_skip};
}

std::vector<TensorType> infer(const CropConcat& op, Types inputs) {
  concat_sources(op, inputs);
  const Shape &skip = inputs[0].shape, &up = inputs[1].shape;
  Shape y = op.align == CropConcat::Align::kCropSkip ? up : skip;
  y[3] = skip[3] + up[3];
  return {{inputs[0].dtype, y}};
}

std::vector<Parameter> parameters(const CropConcat&, Types) {
  return {};
}

Cost cost(const CropConcat& op, Types inputs) {
  // What the crop leaves out is never read.
  return {0, 2 * static_cast<double>(infer(op, inputs)[0].bytes())};
}

}  // namespace tessera
