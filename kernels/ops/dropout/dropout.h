// Dropout at inference: the identity. A pass removes it; run alone it copies.
//
// inputs:  x (...)     outputs: y (...), same type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Dropout {
  static constexpr std::string_view kName = "dropout";
  double rate = 0.5;  // of training; not used at inference

  bool operator==(const Dropout&) const = default;
};

void fields(auto&& visit, Of<Dropout> auto& op) {
  visit("rate", op.rate, Range{0, 1});
}
std::vector<TensorType> infer(const Dropout& op, Types inputs);
std::vector<Parameter> parameters(const Dropout& op, Types inputs);
Cost cost(const Dropout& op, Types inputs);
Extent extent(const Dropout& op, const Along& along, std::span<const Interval> wanted);
Dropout part(const Dropout& op, const Along& along, Extent& piece);
void reference(const Dropout& op, const Operands& operands);

}  // namespace tessera
