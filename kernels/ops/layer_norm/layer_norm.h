// Layer normalisation over the last axis: y = gamma (x - mean) / sqrt(var + eps) + beta, where mean
// and (biased) variance are those of each row (Ba et al. 2016; torch.nn.LayerNorm).
//
// inputs:  x (..., c)     weights: weight (c) = gamma, bias (c) = beta, if affine
// outputs: y, of x's type
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  double eps = 1e-5;
  bool affine = true;

  bool operator==(const LayerNorm&) const = default;
};

void fields(auto&& visit, Of<LayerNorm> auto& op) {
  visit("eps", op.eps, Range{kAboveZero, 1});
  visit("affine", op.affine);
}
std::vector<TensorType> infer(const LayerNorm& op, Types inputs);
std::vector<Parameter> parameters(const LayerNorm& op, Types inputs);
Cost cost(const LayerNorm& op, Types inputs);
Extent extent(const LayerNorm& op, const Along& along, std::span<const Interval> wanted);
LayerNorm part(const LayerNorm& op, const Along& along, Extent& piece);
void reference(const LayerNorm& op, const Operands& operands);

}  // namespace tessera
