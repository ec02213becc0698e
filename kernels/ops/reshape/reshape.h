// The same elements in another shape.
//
// inputs:  x (...) of any type     outputs: y, of x's type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Reshape {
  static constexpr std::string_view kName = "reshape";
  // Extents of y; 0 takes x's extent of the same axis, one -1 takes what is left (ONNX Reshape).
  std::vector<int> shape = {};

  bool operator==(const Reshape&) const = default;
};

void fields(auto&& visit, Of<Reshape> auto& op) {
  visit("shape", op.shape, Range{-1, std::numeric_limits<int>::max()});
}
std::vector<TensorType> infer(const Reshape& op, Types inputs);
std::vector<Parameter> parameters(const Reshape& op, Types inputs);
Cost cost(const Reshape& op, Types inputs);
Extent extent(const Reshape& op, const Along& along, std::span<const Interval> wanted);
Reshape part(const Reshape& op, const Along& along, Extent& piece);
void reference(const Reshape& op, const Operands& operands);

}  // namespace tessera
