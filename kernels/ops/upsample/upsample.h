// Bilinear 2x up-sampling, as torch.nn.Upsample(scale_factor=2, mode='bilinear').
//
// inputs:  x (n, h, w, c)     outputs: y (n, 2h, 2w, c), same type
// Source coordinate of output i: align_corners: i (h - 1) / (2h - 1); else max(i / 2 - 1/4, 0).
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct Upsample {
  static constexpr std::string_view kName = "upsample";
  bool align_corners = false;
};

void fields(auto&& visit, Of<Upsample> auto& op) {
  visit("align_corners", op.align_corners);
}
std::vector<TensorType> infer(const Upsample& op, Types inputs);
std::vector<Parameter> parameters(const Upsample& op, Types inputs);
Cost cost(const Upsample& op, Types inputs);
void reference(const Upsample& op, const Operands& operands);

}  // namespace tessera
