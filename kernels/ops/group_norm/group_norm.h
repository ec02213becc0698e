// Group normalisation: y = gamma (x - mean) / sqrt(var + eps) + beta, where mean and (biased)
// variance are taken over all pixels of an image and the channels of one group (Wu & He 2018;
// torch.nn.GroupNorm). With a group for each channel it is instance normalisation
// (torch.nn.InstanceNorm2d without running statistics), with one group for all layer normalisation
// of the whole image.
//
// inputs:  x (n, ..., c); the epilogue's residual
// weights: weight (c) = gamma, bias (c) = beta, if affine; the epilogue's
// outputs: y, of x's type: what `epilogue` makes of the above
#pragma once

#include "kernels/operator.h"
#include "kernels/ops/activation/epilogue.h"

namespace tessera {

struct GroupNorm {
  static constexpr std::string_view kName = "group_norm";
  int groups = 0;  // of neighbouring channels; 0: as many as there are channels
  double eps = 1e-5;
  bool affine = true;
  Epilogue epilogue = {};

  bool operator==(const GroupNorm&) const = default;
};

void fields(auto&& visit, Of<GroupNorm> auto& op) {
  visit("groups", op.groups, Range{0, 1 << 20});
  visit("eps", op.eps, Range{kAboveZero, 1});
  visit("affine", op.affine);
}
std::vector<TensorType> infer(const GroupNorm& op, Types inputs);
std::vector<Parameter> parameters(const GroupNorm& op, Types inputs);
Cost cost(const GroupNorm& op, Types inputs);
Extent extent(const GroupNorm& op, const Along& along, std::span<const Interval> wanted);
GroupNorm part(const GroupNorm& op, const Along& along, Extent& piece);
void reference(const GroupNorm& op, const Operands& operands);

}  // namespace tessera
