// Attention's weights as the fast paths want them: W (D x + c) + b = (W D) x + (W c + b), so a
// dense layer is folded into W and b once, in double.
#pragma once

#include <vector>

#include "kernels/ops/attention/attention.h"

namespace tessera {

// All as f32.
struct AttentionWeights {
  std::vector<float> weight, bias, context;  // (units, d), (units), (units)
  std::vector<float> dense, dense_bias;      // (dense_units, d), (dense_units); empty if none
};

// `weights` are those of Attention, in order.
AttentionWeights folded_weights(const Attention& op, std::span<const TensorView> weights);

}  // namespace tessera
