// What the backward runs of layers with a bias, and a ReLU in their epilogue, begin with: one pass
// over the gradient of the output that masks it and sums it up for the bias.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"

namespace tessera {

class OutputGradient {
 public:
  OutputGradient(std::int64_t rows, std::int64_t channels, bool relu, int threads);

  std::size_t scratch_bytes() const;

  // The gradient (rows, channels) where y > 0 or NaN, elsewhere 0; `gradient` itself without a
  // ReLU. Its sums over the rows are added to `bias_gradient` (channels) unless that is null. They
  // are taken in blocks of rows whose extent depends on `rows` alone.
  const float* run(const float* gradient, const float* y, float* bias_gradient,
                   std::byte* scratch) const;

 private:
  std::int64_t rows_, channels_, block_, blocks_;
  bool relu_;
  int threads_;
};

}  // namespace tessera
