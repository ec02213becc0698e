// The gradient of a convolution's weight on a GPU, in the one form that Conv and ConvTranspose
// share:
//
//   weight_gradient[i, j, ky, kx] += sum over pixels (y, x) of a
//       a[y, x, i] b[stride y + ky - pad, stride x + kx - pad, j]
//
// with zeros outside of b. Conv: a is the gradient of the output, b the input, stride 1.
// ConvTranspose: a is the input, b the gradient of the output, stride 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/precision.h"
#include "kernels/tensor.h"

namespace tessera {

// Extents: all that scratch and technique depend on, besides the GPU.
struct ConvWeightGradientShape {
  int n, rows, columns, b_rows, b_columns;
  int a_channels, b_channels;
  int kernel, stride, pad;  // (3, 1), (1, 1), (2, 2) and (3, 2) are the kernels and their strides
  DType a_type, b_type;
  std::int64_t weights;  // a_channels b_channels kernel kernel: elements of the gradient
};

// Tensor cores need elements of one type, f32 only where math allows to round it, channels that
// fill whole 16 bytes on both sides, and capability 80. Sums in f32 units take any types and
// channels.
enum class ConvWeightGradientTechnique : std::uint8_t { kMma, kSimt };
ConvWeightGradientTechnique choose_conv_weight_gradient(const ConvWeightGradientShape& shape,
                                                        Precision math, int capability);

// Rows of pixels, of all images, are cut into slices of `slice_rows`; each has sums of its own,
// which are added in order. Depends on the shape and the number of multiprocessors alone.
struct ConvWeightGradientSplit {
  std::int64_t slice_rows, slices;
};
ConvWeightGradientSplit split_conv_weight_gradient(const ConvWeightGradientShape& shape,
                                                   ConvWeightGradientTechnique technique,
                                                   int multiprocessors);

struct ConvWeightGradientArgs {
  ConvWeightGradientShape shape;
  ConvWeightGradientSplit split;
  const void* a;           // (n, rows, columns, a_channels)
  const void* b;           // (n, b_rows, b_columns, b_channels)
  float* sums;             // (slices, k k, a_channels, b_channels), written
  float* weight_gradient;  // (a_channels, b_channels, k, k), added to
};

// The sums of all slices.
void conv_weight_gradient_mma_cuda(const ConvWeightGradientArgs& args, CudaStream stream);
void conv_weight_gradient_fma_cuda(const ConvWeightGradientArgs& args, CudaStream stream);

// Adds them to the gradient.
void add_conv_weight_slices_cuda(const ConvWeightGradientArgs& args, CudaStream stream);

// Tiles of weights that a block of a technique makes, and blocks that a multiprocessor holds.
inline constexpr int kConvWeightTile = 64;  // channels of a by channels, or columns, of b
inline constexpr int kConvWeightBlocks = 3;

}  // namespace tessera
