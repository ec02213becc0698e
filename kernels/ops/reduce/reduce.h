// Reduction over axes: mean, sum, max or min. Global pooling of an image is the axes 1 and 2. NaN
// wins in max and min, as in torch.amax.
//
// inputs:  x (...)
// outputs: y, of x's type: the axes have extent 1 if `keepdims`, or are gone
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Reduce {
  static constexpr std::string_view kName = "reduce";
  enum class Kind : std::uint8_t { kMean, kSum, kMax, kMin };
  Kind kind = Kind::kMean;
  std::vector<int> axes = {};  // negative ones count from the last; none: all axes
  bool keepdims = true;

  bool operator==(const Reduce&) const = default;
};

constexpr std::array<std::string_view, 4> names_of(Reduce::Kind) {
  return {"mean", "sum", "max", "min"};
}
void fields(auto&& visit, Of<Reduce> auto& op) {
  visit("kind", op.kind);
  visit("axes", op.axes, Range{-Shape::kMaxRank, Shape::kMaxRank - 1});
  visit("keepdims", op.keepdims);
}
// x's shape with extent 1 in the reduced axes. Throws where an axis is not one of x's.
Shape reduced_shape(const Reduce& op, const Shape& x);

std::vector<TensorType> infer(const Reduce& op, Types inputs);
std::vector<Parameter> parameters(const Reduce& op, Types inputs);
Cost cost(const Reduce& op, Types inputs);
Extent extent(const Reduce& op, const Along& along, std::span<const Interval> wanted);
Reduce part(const Reduce& op, const Along& along, Extent& piece);
void reference(const Reduce& op, const Operands& operands);

}  // namespace tessera
