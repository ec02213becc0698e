// The CUDA path of Attention's backward run, besides its matrix products: what its launchers take.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera {

// de_t = a_t (da_t - sum_j a_j da_j), with ds . z_t added to da_t; 0 behind a sequence's end.
struct AttentionScoreGradientArgs {
  const float* z;               // (sequences, t, width)
  const float* a;               // (sequences, t)
  const float* ds;              // (sequences, width)
  const float* da;              // (sequences, t); null: zeros
  const std::int32_t* lengths;  // (sequences), clamped to 0 .. t; null: all t
  float* de;                    // (sequences, t)
  std::int64_t sequences;
  int t, width;
};

void attention_score_gradient_cuda(const AttentionScoreGradientArgs& args, CudaStream stream);

// dp = de context (1 - u^2), and its sums over rows.
struct AttentionSlopeArgs {
  const float* de;          // (rows)
  const float* u;           // (rows, units)
  const float* context;     // (units)
  float* dp;                // (rows, units)
  float* bias_gradient;     // (units): the sums of dp are added to it; null: not computed
  float* context_gradient;  // (units): those of de u; null: not computed
  float* partial;           // attention_slope_scratch() bytes
  std::int64_t rows;
  int units;
};

std::size_t attention_slope_scratch(std::int64_t rows, int units);

void attention_slope_cuda(const AttentionSlopeArgs& args, CudaStream stream);

// dz_t += a_t ds; 0 behind a sequence's end, whatever was there.
struct AttentionPoolGradientArgs {
  const float* a;               // (sequences, t)
  const float* ds;              // (sequences, width)
  const std::int32_t* lengths;  // (sequences); null: all t
  float* dz;                    // (sequences, t, width)
  std::int64_t sequences;
  int t, width;
};

void attention_pool_gradient_cuda(const AttentionPoolGradientArgs& args, CudaStream stream);

}  // namespace tessera
