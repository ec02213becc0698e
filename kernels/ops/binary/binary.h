// Two maps, element by element: a + b, a - b, a b, a / b, min(a, b), max(a, b), broadcast by
// numpy's rules. NaN wins in min and max, as in torch.minimum.
//
// inputs:  a (...), b (...): axes are aligned at the last; extents are equal, or one of them is 1
//          a alone where `constant` has extents: b, or a if `reversed`, is then a weight
// weights: value (constant...), if there is one
// outputs: y (...) of the larger extents; of the narrower type where a and b are stored differently
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Binary {
  static constexpr std::string_view kName = "binary";
  enum class Kind : std::uint8_t { kAdd, kSub, kMul, kDiv, kMin, kMax };
  Kind kind = Kind::kAdd;
  std::vector<int> constant = {};  // extents of the operand that is a weight; none: both are inputs
  bool reversed = false;           // the weight is a, the input b

  bool operator==(const Binary&) const = default;
};

constexpr std::array<std::string_view, 6> names_of(Binary::Kind) {
  return {"add", "sub", "mul", "div", "min", "max"};
}
void fields(auto&& visit, Of<Binary> auto& op) {
  visit("kind", op.kind);
  visit("constant", op.constant, Range{1, 1 << 24});
  visit("reversed", op.reversed);
}
// The types of a and b.
std::array<TensorType, 2> operand_types(const Binary& op, Types inputs);

std::vector<TensorType> infer(const Binary& op, Types inputs);
std::vector<Parameter> parameters(const Binary& op, Types inputs);
Cost cost(const Binary& op, Types inputs);
Extent extent(const Binary& op, const Along& along, std::span<const Interval> wanted);
Binary part(const Binary& op, const Along& along, Extent& piece);
void reference(const Binary& op, const Operands& operands);

}  // namespace tessera
