// 2-D convolution (cross-correlation, as torch.nn.Conv2d), fused with all that surrounds it in a
// UNet:
//
//   x = concat(skip, up)            if `concat` is set: read in place, never materialised
//   y = W * x + bias
//   y = affine(y)                   if norm = kBeforeRelu
//   y = y + residual                as `epilogue` says (kernels/ops/activation/epilogue.h)
//   y = activation(y)               max(y, 0) if relu, or of the epilogue
//   y = affine(y)                   if norm = kAfterRelu (exact; cannot fold into W)
//   pooled = max over 2x2 of y      if pool: a second output
//
// inputs:  x (n, h, w, c_in), or skip and up as CropConcat takes them; the epilogue's residual
// weights: weight (c_out, c_in / groups, kh, kw); bias (c_out) if bias; the four of BatchNorm,
// named
//          "norm/...", if norm is not kNone; the epilogue's
// outputs: y (n, ho, wo, c_out) of `dtype`; pooled (n, ho / 2, wo / 2, c_out) if pool
//          ho = (h + top + bottom - (kh - 1) dilation - 1) / stride + 1, columns alike
#pragma once

#include <optional>

#include "kernels/operator.h"
#include "kernels/ops/activation/epilogue.h"
#include "kernels/ops/batch_norm/batch_norm.h"
#include "kernels/ops/crop_concat/crop_concat.h"
#include "kernels/window.h"

namespace tessera {

struct Conv {
  static constexpr std::string_view kName = "conv";
  enum class Norm : std::uint8_t { kNone, kBeforeRelu, kAfterRelu };
  // kWinograd: F(4x4, 3x3) of Lavin & Gray 2015, dense 3x3 and
  // f32 alone. Chosen per node by a pass, from
  // channel counts alone, so that an answer never depends on the size of the image or tile.
  enum class Technique : std::uint8_t { kDirect, kWinograd };

  int c_out = 0;
  Window window = square(3);
  int groups = 1;  // output channels of group g read the input channels of group g alone
  bool bias = true;
  bool relu = false;
  Epilogue epilogue = {};
  Norm norm = Norm::kNone;
  BatchNorm batch_norm = {};  // used where norm is not kNone
  std::optional<CropConcat> concat = std::nullopt;
  bool pool = false;
  Technique technique = Technique::kDirect;
  DType dtype = DType::kF32;  // of the outputs: f32, bf16 or f16

  bool operator==(const Conv&) const = default;
};

// Side of the output tile whose pixels share their rounding; tiles start at multiples of it.
inline constexpr int kWinogradTile = 4;
// Each pixel for itself: 1x1, stride 1, no pads, one group.
bool is_pointwise(const Conv& op);
bool is_winograd(const Conv& op);  // whether its window and type allow the technique

void fields(auto&& visit, Of<Conv> auto& op) {
  visit("c_out", op.c_out, Range{1, 1 << 20});
  fields(visit, op.window);
  visit("groups", op.groups, Range{1, 1 << 20});
  visit("bias", op.bias);
}
std::vector<TensorType> infer(const Conv& op, Types inputs);
std::vector<Parameter> parameters(const Conv& op, Types inputs);
Cost cost(const Conv& op, Types inputs);
Extent extent(const Conv& op, const Along& along, std::span<const Interval> wanted);
Conv part(const Conv& op, const Along& along, Extent& piece);
void reference(const Conv& op, const Operands& operands);

}  // namespace tessera
