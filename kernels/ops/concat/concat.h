// Joins any number of tensors along one axis.
//
// inputs:  x0, x1, ... of one type, with equal extents but for `axis`
// outputs: y, whose extent there is the sum of theirs
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Concat {
  static constexpr std::string_view kName = "concat";
  int axis = -1;  // a negative one counts from the last

  bool operator==(const Concat&) const = default;
};

void fields(auto&& visit, Of<Concat> auto& op) {
  visit("axis", op.axis, Range{-Shape::kMaxRank, Shape::kMaxRank - 1});
}
std::vector<TensorType> infer(const Concat& op, Types inputs);
std::vector<Parameter> parameters(const Concat& op, Types inputs);
Cost cost(const Concat& op, Types inputs);
Extent extent(const Concat& op, const Along& along, std::span<const Interval> wanted);
Concat part(const Concat& op, const Along& along, Extent& piece);
void reference(const Concat& op, const Operands& operands);

}  // namespace tessera
