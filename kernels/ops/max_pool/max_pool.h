// Max-pooling 2x2, stride 2; a last odd row or column is dropped.
//
// inputs:  x (n, h, w, c)     outputs: y (n, h / 2, w / 2, c), same type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct MaxPool {
  static constexpr std::string_view kName = "max_pool";

  bool operator==(const MaxPool&) const = default;
};

void fields(auto&&, Of<MaxPool> auto&) {}
std::vector<TensorType> infer(const MaxPool& op, Types inputs);
std::vector<Parameter> parameters(const MaxPool& op, Types inputs);
Cost cost(const MaxPool& op, Types inputs);
Extent extent(const MaxPool& op, const Along& along, std::span<const Interval> wanted);
MaxPool part(const MaxPool& op, const Along& along, Extent& piece);
void reference(const MaxPool& op, const Operands& operands);

}  // namespace tessera
