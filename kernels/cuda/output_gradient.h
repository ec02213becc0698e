// What the backward runs of layers with a bias, and a ReLU in their epilogue, begin with: one pass
// over the gradient of the output that masks it and sums it up for the bias.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

struct OutputGradientArgs {
  const void* gradient;  // (rows, channels)
  const void* y;  // (rows, channels): the gradient counts where y is not <= 0; null: everywhere
  void* masked;   // (rows, channels), written; null: not asked for
  float* bias_gradient;  // (channels): the sums over rows are added to it; null: not computed
  float* partial;        // output_gradient_scratch() bytes; not read where bias_gradient is null
  std::int64_t rows, channels;
  DType dtype;  // of gradient, y and masked: f32, bf16 or f16
};

// Bytes of `partial`: sums are taken in blocks of rows, whose extent depends on `rows` and
// `channels` alone, and added in the blocks' order.
std::size_t output_gradient_scratch(std::int64_t rows, std::int64_t channels);

void output_gradient_cuda(const OutputGradientArgs& args, CudaStream stream);

}  // namespace tessera
