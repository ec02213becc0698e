// Class ids: the index of the largest value along the last axis, the first of equals. With one
// channel (a sigmoid's), class 1 where the value exceeds 0.5, else 0. A NaN is never the largest.
//
// inputs:  x (..., c), f32, bf16 or f16, c <= 256     outputs: y (...), u8
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Argmax {
  static constexpr std::string_view kName = "argmax";

  bool operator==(const Argmax&) const = default;
};

void fields(auto&&, Of<Argmax> auto&) {}
std::vector<TensorType> infer(const Argmax& op, Types inputs);
std::vector<Parameter> parameters(const Argmax& op, Types inputs);
Cost cost(const Argmax& op, Types inputs);
Extent extent(const Argmax& op, const Along& along, std::span<const Interval> wanted);
Argmax part(const Argmax& op, const Along& along, Extent& piece);
void reference(const Argmax& op, const Operands& operands);

}  // namespace tessera
