// Transposed convolution ("up-convolution", torch.nn.ConvTranspose2d). Optional ReLU (tf_unet).
//
// inputs:  x (n, h, w, c_in)
// weights: weight (c_in, c_out / groups, kh, kw); bias (c_out) if bias
// outputs: y (n, ho, wo, c_out) of `dtype`
//
// With a kernel of 2 or 3, that of a UNet, y has twice the size of x: stride 2, 2x2 without padding
// or 3x3 with padding 1 and output padding 1. With a kernel of 0 `window` and `groups` say what it
// is: pixel i of x reaches pixels i stride + k dilation of the whole map, for each tap k, and y is
// that map without the `pads` first and last rows and columns. Pads below 0 add pixels, which hold
// the bias: PyTorch's output padding is subtracted from those behind.
//          ho = (h - 1) stride + (kh - 1) dilation + 1 - top - bottom, columns alike
#pragma once

#include "kernels/operator.h"
#include "kernels/window.h"

namespace tessera {

struct ConvTranspose {
  static constexpr std::string_view kName = "conv_transpose";
  int c_out = 0;
  int kernel = 2;  // 2; 3 (padding 1, output padding 1); 0: as `window` and `groups` say
  bool bias = true;
  bool relu = false;
  DType dtype = DType::kF32;  // of the output: f32, bf16 or f16
  Window window = {};         // of kernel 0
  int groups = 1;             // output channels of group g read the input channels of group g alone

  bool operator==(const ConvTranspose&) const = default;
};

// Whether it is one of the two that double a map's size, which have kernels of their own.
inline bool is_doubling(const ConvTranspose& op) {
  return op.kernel != 0;
}
// Window and groups of any kernel.
Window window_of(const ConvTranspose& op);
// One of any window: that which doubles where it is the same.
ConvTranspose conv_transpose_of(int c_out, const Window& window, int groups = 1, bool bias = true);

void fields(auto&& visit, Of<ConvTranspose> auto& op) {
  visit("c_out", op.c_out, Range{1, 1 << 20});
  visit("kernel", op.kernel, Range{0, 3});
  visit("bias", op.bias);
  visit("window", op.window.kernel, Range{1, 1 << 12});
  visit("stride", op.window.stride, Range{1, 1 << 12});
  visit("dilation", op.window.dilation, Range{1, 1 << 12});
  visit("crop", op.window.pads, Range{-(1 << 24), 1 << 24});
  visit("groups", op.groups, Range{1, 1 << 20});
}
std::vector<TensorType> infer(const ConvTranspose& op, Types inputs);
std::vector<Parameter> parameters(const ConvTranspose& op, Types inputs);
Cost cost(const ConvTranspose& op, Types inputs);
Extent extent(const ConvTranspose& op, const Along& along, std::span<const Interval> wanted);
ConvTranspose part(const ConvTranspose& op, const Along& along, Extent& piece);
void reference(const ConvTranspose& op, const Operands& operands);

}  // namespace tessera
