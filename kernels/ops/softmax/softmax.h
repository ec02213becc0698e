// Softmax over the last axis, with the maximum subtracted: over the classes of each pixel of an
// image, or of each document.
//
// inputs:  x (..., c), f32, bf16 or f16     outputs: y (..., c), f32
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Softmax {
  static constexpr std::string_view kName = "softmax";

  bool operator==(const Softmax&) const = default;
};

void fields(auto&&, Of<Softmax> auto&) {}
std::vector<TensorType> infer(const Softmax& op, Types inputs);
std::vector<Parameter> parameters(const Softmax& op, Types inputs);
Cost cost(const Softmax& op, Types inputs);
Extent extent(const Softmax& op, const Along& along, std::span<const Interval> wanted);
Softmax part(const Softmax& op, const Along& along, Extent& piece);
void reference(const Softmax& op, const Operands& operands);

}  // namespace tessera
