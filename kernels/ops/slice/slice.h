// A strided piece of a tensor: y[i] = x[start + i step] along each axis that is named, up to and
// without `end` (ONNX Slice, numpy's x[start:end:step]).
//
// inputs:  x (...) of any type     outputs: y, of x's type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Slice {
  static constexpr std::string_view kName = "slice";
  // One number for each axis named; negative starts and ends count from behind the last element,
  // and those outside of x are clamped. No axes: the first ones. No steps: 1.
  std::vector<int> starts = {}, ends = {}, axes = {}, steps = {};

  bool operator==(const Slice&) const = default;
};

// What is read along one axis.
struct SliceSpan {
  std::int64_t start = 0, step = 1, count = 0;
};
// Of each axis of x. Throws where the lists do not fit x or nothing is left.
std::vector<SliceSpan> slice_spans(const Slice& op, const TensorType& x);

void fields(auto&& visit, Of<Slice> auto& op) {
  constexpr Range kInts{std::numeric_limits<int>::min(), std::numeric_limits<int>::max()};
  visit("starts", op.starts, kInts);
  visit("ends", op.ends, kInts);
  visit("axes", op.axes, Range{-Shape::kMaxRank, Shape::kMaxRank - 1});
  visit("steps", op.steps, kInts);
}
std::vector<TensorType> infer(const Slice& op, Types inputs);
std::vector<Parameter> parameters(const Slice& op, Types inputs);
Cost cost(const Slice& op, Types inputs);
Extent extent(const Slice& op, const Along& along, std::span<const Interval> wanted);
Slice part(const Slice& op, const Along& along, Extent& piece);
void reference(const Slice& op, const Operands& operands);

}  // namespace tessera
