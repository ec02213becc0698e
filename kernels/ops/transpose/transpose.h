// Axes in another order: axis i of y is axis order[i] of x (numpy.transpose).
//
// inputs:  x (...) of any type     outputs: y, of x's type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Transpose {
  static constexpr std::string_view kName = "transpose";
  std::vector<int> order = {};  // none: reversed

  bool operator==(const Transpose&) const = default;
};

// The axes of x in y's order, none below 0. Throws unless each is there once.
std::vector<int> order_of(const Transpose& op, const TensorType& x);

void fields(auto&& visit, Of<Transpose> auto& op) {
  visit("order", op.order, Range{0, Shape::kMaxRank - 1});
}
std::vector<TensorType> infer(const Transpose& op, Types inputs);
std::vector<Parameter> parameters(const Transpose& op, Types inputs);
Cost cost(const Transpose& op, Types inputs);
Extent extent(const Transpose& op, const Along& along, std::span<const Interval> wanted);
Transpose part(const Transpose& op, const Along& along, Extent& piece);
void reference(const Transpose& op, const Operands& operands);

}  // namespace tessera
