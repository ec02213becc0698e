// What the backward runs of Conv and ConvTranspose share in host code.
#pragma once

#include <functional>

#include "kernels/cuda/training.h"
#include "kernels/ops/conv/train/cuda.h"

namespace tessera {

// dW on one shape, with technique and split chosen.
struct ConvWeightGradientStep {
  std::size_t scratch_bytes = 0;
  std::function<void(const void* a, const void* b, float* weight_gradient, std::byte* scratch)> run;
};
ConvWeightGradientStep conv_weight_gradient(const ConvWeightGradientShape& shape,
                                            const CudaSetup& setup);

// The gradient of an output behind its ReLU, where there is one, and its sums for the bias.
class MaskedGradient {
 public:
  MaskedGradient(std::int64_t rows, std::int64_t channels, DType dtype, bool relu);

  std::size_t scratch_bytes() const;
  // Returns the masked gradient: in the scratch, or `gradient` itself without a ReLU. The sums are
  // added to `bias_gradient` if that is not null.
  const void* run(const void* gradient, const void* y, float* bias_gradient, std::byte* scratch,
                  CudaStream stream) const;

 private:
  std::size_t masked_bytes() const;

  std::int64_t rows_, channels_;
  DType dtype_;
  bool relu_;
};

}  // namespace tessera
