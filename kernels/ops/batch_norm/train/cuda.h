// The CUDA path of BatchNorm in training: what its launchers take.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/tensor.h"

namespace tessera {

// How a map (rows, c) is cut into blocks of threads; it depends on the extents alone. A thread
// keeps to one group of channels and takes every `lanes`-th row of its slice.
struct BatchNormTiling {
  std::int64_t rows, c;
  int width;            // channels of a group: 16 bytes, or 1 channel where they do not divide c
  int groups;           // of a block: neighbouring groups of channels
  int lanes;            // rows that a block takes at a time
  std::int64_t tiles;   // blocks side by side that cover the channels
  int extent;           // rows of a slice; the last may have fewer
  std::int64_t slices;  // blocks one below the other that cover the rows
};

inline constexpr int kBatchNormThreads = 256;    // of a block that takes rows
inline constexpr int kBatchNormMostGroups = 64;  // more would leave up to half of them idle
inline constexpr int kBatchNormUnroll = 4;       // rows that a thread has under way

// `width` divides c.
BatchNormTiling batch_norm_tiling(std::int64_t rows, std::int64_t c, int width);

struct BatchNormTrainArgs {
  BatchNormTiling tiling;
  const void* x;                      // (rows, c) of `dtype`
  void* y;                            // (rows, c)
  const float *gamma, *beta;          // (c)
  float *running_mean, *running_var;  // (c), updated
  float *mean, *inverse;              // (c), written: of the batch
  float* partial;  // (2, c, slices), scratch: means of the slices, then squared deviations
  float* scale;    // (c), scratch
  double eps, momentum;
  DType dtype;  // f32, bf16 or f16
};

struct BatchNormBackwardArgs {
  BatchNormTiling tiling;
  const void *x, *dy;                   // (rows, c) of `dtype`
  void* dx;                             // (rows, c); null: not computed
  const float *gamma, *mean, *inverse;  // (c)
  float *dgamma, *dbeta;                // (c), added to; null: not computed
  float* partial;  // (2, c, slices), scratch: sums of dy, then of dy (x - mean)
  float* factors;  // (3, c), scratch
  DType dtype;     // f32, bf16 or f16
};

void batch_norm_train_cuda(const BatchNormTrainArgs& args, CudaStream stream);
void batch_norm_backward_cuda(const BatchNormBackwardArgs& args, CudaStream stream);

}  // namespace tessera
