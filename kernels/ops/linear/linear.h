// Dense layer on the last axis: y = W x + b.
//
// inputs:  x (..., features), f32     weights: weight (units, features); bias (units) if bias
// outputs: y (..., units), f32
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Linear {
  static constexpr std::string_view kName = "linear";
  int units = 0;
  bool bias = true;

  bool operator==(const Linear&) const = default;
};

void fields(auto&& visit, Of<Linear> auto& op) {
  visit("units", op.units, Range{1, 1 << 24});
  visit("bias", op.bias);
}
std::vector<TensorType> infer(const Linear& op, Types inputs);
std::vector<Parameter> parameters(const Linear& op, Types inputs);
Cost cost(const Linear& op, Types inputs);
Extent extent(const Linear& op, const Along& along, std::span<const Interval> wanted);
Linear part(const Linear& op, const Along& along, Extent& piece);
void reference(const Linear& op, const Operands& operands);

}  // namespace tessera
