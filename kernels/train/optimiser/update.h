// The arithmetic of one optimiser step on flat f32 arrays, for the vector units of this machine.
// Element i depends on element i alone. engine/train/optimiser.h documents it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera {

// One tensor in the memory of the device that steps.
struct OptimiserTensor {
  float* weight;
  const float* gradient;
  float* first;   // momentum, or Adam's mean; null where the optimiser has none
  float* second;  // Adam's mean of squares
  std::int64_t count;
};

struct SgdUpdate {
  float gradient_scale;
  float decay;
  float momentum;  // 0: the array `velocity` is not touched
  bool nesterov;
  float rate;
};

struct AdamUpdate {
  float gradient_scale;
  float decay;         // added to the gradient
  float weight_scale;  // of the weight, before the rest: 1 - r d for AdamW, else 1
  float beta1, beta2;
  float one_minus_beta1, one_minus_beta2;  // rounded once from double, as PyTorch does
  float step_size;                         // r / (1 - beta1^t)
  float root_correction;                   // sqrt(1 - beta2^t)
  float eps;
};

void update_sgd(const SgdUpdate& update, float* weight, const float* gradient, float* velocity,
                std::size_t count);
void update_adam(const AdamUpdate& update, float* weight, const float* gradient, float* mean,
                 float* square, std::size_t count);

// The sum of squares in double: eight partial sums (element i goes to the one of i mod 8), added in
// order, on every instruction set.
double sum_of_squares(const float* values, std::size_t count);

}  // namespace tessera
