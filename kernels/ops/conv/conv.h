// 2-D convolution, stride 1, 3x3 or 1x1, fused with all that surrounds it in a UNet:
//
//   x = concat(skip, up)            if `concat` is set: read in place, never materialised
//   y = W * x + bias
//   y = affine(y)                   if norm = kBeforeRelu
//   y = max(y, 0)                   if relu
//   y = affine(y)                   if norm = kAfterRelu (exact; cannot fold into W)
//   pooled = max over 2x2 of y      if pool: a second output
//
// inputs:  x (n, h, w, c_in), or skip and up as CropConcat takes them
// weights: weight (c_out, c_in, k, k); bias (c_out) if bias; the four of BatchNorm, named
//          "norm/...", if norm is not kNone
// outputs: y (n, ho, wo, c_out) of `dtype`; pooled (n, ho / 2, wo / 2, c_out) if pool
//          kValid: ho = h - k + 1; kSame: zeros around, ho = h; kFull: k - 1 zeros on each side,
//          ho = h + k - 1, as the gradient of a valid convolution's input needs them
#pragma once

#include <optional>

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"
#include "kernels/ops/batch_norm/batch_norm.h"
#include "kernels/ops/crop_concat/crop_concat.h"

namespace tessera {

struct Conv {
  enum class Padding : std::uint8_t { kValid, kSame, kFull };
  enum class Norm : std::uint8_t { kNone, kBeforeRelu, kAfterRelu };
  // kWinograd: F(4x4, 3x3) of Lavin & Gray 2015, 3x3 and f32 alone. Chosen per node by a pass, from
  // channel counts alone, so that an answer never depends on the size of the image or tile.
  enum class Technique : std::uint8_t { kDirect, kWinograd };

  int c_out = 0;
  int kernel = 3;
  Padding padding = Padding::kValid;
  bool bias = true;
  bool relu = false;
  Norm norm = Norm::kNone;
  BatchNorm batch_norm = {};  // used where norm is not kNone
  std::optional<CropConcat> concat = std::nullopt;
  bool pool = false;
  Technique technique = Technique::kDirect;
  DType dtype = DType::kF32;  // of the outputs: f32, bf16 or f16
};

// Side of the output tile whose pixels share their rounding; tiles start at multiples of it.
inline constexpr int kWinogradTile = 4;

std::vector<TensorType> infer(const Conv& op, Types inputs);
std::vector<Parameter> parameters(const Conv& op, Types inputs);
Cost cost(const Conv& op, Types inputs);
void reference(const Conv& op, const Operands& operands);
Step cpu(const Conv& op, const CpuSetup& setup);
Step cuda(const Conv& op, const CudaSetup& setup);

}  // namespace tessera
