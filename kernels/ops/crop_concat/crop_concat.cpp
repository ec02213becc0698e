#include "kernels/ops/crop_concat/crop_concat.h"

#include "kernels/check.h"

namespace tessera {

ConcatAxis concat_axis(const CropConcat& op, std::size_t side, std::int64_t skip, std::int64_t up) {
  if (op.piece[side]) return *op.piece[side];
  const std::int64_t offset = (skip - up) / 2;
  if (op.align == CropConcat::Align::kCropSkip) return {up, offset, 0};
  return {skip, 0, -offset};
}

std::array<ConcatSource, 2> concat_sources(const CropConcat& op, Types inputs) {
  require_inputs("crop_concat", inputs, 2);
  for (const TensorType& input : inputs) require_image("crop_concat", input);
  const TensorType &skip = inputs[0], &up = inputs[1];
  require(skip.dtype == up.dtype && skip.shape[0] == up.shape[0],
          "crop_concat joins maps of one type and batch, but skip is {} and up is {}: feed both "
          "from the same run",
          skip, up);
  const auto fits = [&](std::size_t side) {
    const int axis = static_cast<int>(side) + 1;
    return op.piece[side] || skip.shape[axis] >= up.shape[axis];
  };
  if (op.align == CropConcat::Align::kEqual) {
    const auto equal = [&](std::size_t side) {
      const int axis = static_cast<int>(side) + 1;
      return op.piece[side] || skip.shape[axis] == up.shape[axis];
    };
    require(equal(0) && equal(1),
            "crop_concat joins maps of one size, but got {} and {}: check the sizes of what it "
            "joins",
            skip, up);
  }
  const bool crops = op.align == CropConcat::Align::kCropSkip;
  require(
      fits(0) && fits(1), "crop_concat cannot {}: skip is {}, but up is larger, {}: {}",
      crops ? "crop the skip map to the up-sampled one" : "pad the up-sampled map to the skip's",
      skip, up,
      crops ? "check the padding of the convolutions between them, or use a larger image"
            : "check the up-sampling before it, which must not pass the size it came from");
  const ConcatAxis rows = concat_axis(op, 0, skip.shape[1], up.shape[1]);
  const ConcatAxis columns = concat_axis(op, 1, skip.shape[2], up.shape[2]);
  const ConcatSource from_skip{0, rows.skip, columns.skip}, from_up{1, rows.up, columns.up};
  if (op.skip_first) return {from_skip, from_up};
  return {from_up, from_skip};
}

std::vector<TensorType> infer(const CropConcat& op, Types inputs) {
  concat_sources(op, inputs);
  const Shape &skip = inputs[0].shape, &up = inputs[1].shape;
  Shape y = skip;
  y[1] = concat_axis(op, 0, skip[1], up[1]).size;
  y[2] = concat_axis(op, 1, skip[2], up[2]).size;
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

Extent extent(const CropConcat& op, const Along& along, std::span<const Interval> wanted) {
  const Interval y = wanted[0];
  const ConcatAxis at = concat_axis(op, along.side(), along.inputs[0], along.inputs[1]);
  return {{y},
          {clip({y.begin + at.skip, y.end + at.skip}, along.inputs[0]),
           clip({y.begin + at.up, y.end + at.up}, along.inputs[1])}};
}

CropConcat part(const CropConcat& op, const Along& along, Extent& piece) {
  const ConcatAxis at = concat_axis(op, along.side(), along.inputs[0], along.inputs[1]);
  const Interval y = piece.outputs[0];
  CropConcat result = op;
  result.piece[along.side()] = {y.size(), at.skip + y.begin - piece.inputs[0].begin,
                                at.up + y.begin - piece.inputs[1].begin};
  return result;
}

}  // namespace tessera
