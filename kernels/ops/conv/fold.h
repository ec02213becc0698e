// Weights as the fast paths want them: a norm before ReLU is folded into weight and bias, in
// double; a norm after ReLU stays as the affine map of the epilogue.
#pragma once

#include <vector>

#include "kernels/ops/conv/geometry.h"

namespace tessera {

// What happens to a sum of products on its way to y:  max(sum + bias, 0) scale + shift, with an
// epilogue of passes in place of the sum + bias.
// Vectors are padded with zeros to whole SIMD vectors of any target.
struct ConvEpilogue {
  std::vector<float> bias;  // (c_out)
  bool relu = false;
  std::vector<float> scale, shift;  // (c_out); empty without a norm after ReLU
  Epilogue added;
  std::vector<float> slopes;  // (c_out) of its activation
};

class FoldedWeights {
 public:
  // Reads f32 weights in place: they must outlive this.
  FoldedWeights(const Conv& op, const ConvGeometry& geometry, std::span<const TensorView> weights);
  FoldedWeights(const FoldedWeights&) = delete;

  // Weight of output channel `o`, input channel `i` of its group, filter row `ky`, column `kx`.
  double at(std::int64_t o, std::int64_t i, std::int64_t ky, std::int64_t kx) const {
    const std::int64_t index = ((o * c_in_ + i) * rows_ + ky) * columns_ + kx;
    return weight_[index] * factor_[static_cast<std::size_t>(o)];
  }

 private:
  std::int64_t c_in_, rows_, columns_;
  std::vector<float> widened_;  // of weights that are not f32
  const float* weight_;         // (c_out, c_in, k, k)
  std::vector<double> factor_;  // (c_out): scale of a norm before ReLU, else 1
};

ConvEpilogue epilogue_of(const Conv& op, const ConvGeometry& geometry,
                         std::span<const TensorView> weights);

}  // namespace tessera
