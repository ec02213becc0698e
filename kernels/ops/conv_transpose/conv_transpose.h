// Transposed convolution of stride 2 ("up-convolution"): 2x2 without padding, or 3x3 with padding 1
// and output padding 1; both double the size. Optional ReLU (tf_unet).
//
// inputs:  x (n, h, w, c_in)     weights: weight (c_in, c_out, k, k); bias (c_out) if bias
// outputs: y (n, 2h, 2w, c_out) of `dtype`
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct ConvTranspose {
  static constexpr std::string_view kName = "conv_transpose";
  int c_out = 0;
  int kernel = 2;  // 2, or 3 (padding 1, output padding 1)
  bool bias = true;
  bool relu = false;
  DType dtype = DType::kF32;  // of the output: f32, bf16 or f16

  bool operator==(const ConvTranspose&) const = default;
};

void fields(auto&& visit, Of<ConvTranspose> auto& op) {
  visit("c_out", op.c_out, Range{1, 1 << 20});
  visit("kernel", op.kernel, Range{2, 3});
  visit("bias", op.bias);
}
std::vector<TensorType> infer(const ConvTranspose& op, Types inputs);
std::vector<Parameter> parameters(const ConvTranspose& op, Types inputs);
Cost cost(const ConvTranspose& op, Types inputs);
Extent extent(const ConvTranspose& op, const Along& along, std::span<const Interval> wanted);
ConvTranspose part(const ConvTranspose& op, const Along& along, Extent& piece);
void reference(const ConvTranspose& op, const Operands& operands);

}  // namespace tessera
