// What both techniques of the transposed convolution share: which block makes what, where an input
// pixel lies, and how sums become output.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/ops/conv_transpose/cuda.h"

namespace tessera {

// What a block makes: output channels from `channel` on of one parity, of the input pixels from
// `pixel` on. Blocks that read the same pixels follow each other, the longest sums first.
struct BlockPlace {
  std::int64_t pixel;
  int parity, channel;
};

__device__ inline BlockPlace block_place(const ConvTransposeArgs& args, int pixels, int channels) {
  const auto tiles = static_cast<unsigned>((args.c_out + channels - 1) / channels);
  const unsigned rest = blockIdx.x / tiles;
  return {std::int64_t{rest / kParities} * pixels,
          kParities - 1 - static_cast<int>(rest % kParities),
          static_cast<int>(blockIdx.x % tiles) * channels};
}

inline dim3 block_grid(const ConvTransposeArgs& args, int pixels, int channels) {
  const std::int64_t tiles = (args.c_out + channels - 1) / channels;
  return dim3(static_cast<unsigned>((args.pixels + pixels - 1) / pixels * kParities * tiles));
}

// An input pixel: its row, counted through all images, and column.
struct Pixel {
  std::int64_t row;
  int column;
};

__device__ inline Pixel pixel_at(const ConvTransposeArgs& args, std::int64_t index) {
  const std::int64_t row = index / args.w;
  return {row, static_cast<int>(index - row * args.w)};
}

// The pixel `steps` behind `from`.
__device__ inline Pixel pixel_behind(const ConvTransposeArgs& args, Pixel from, int steps) {
  const auto column = static_cast<unsigned>(from.column + steps);
  const auto w = static_cast<unsigned>(args.w);
  return {from.row + column / w, static_cast<int>(column % w)};
}

// Where a thread reads an input pixel and its neighbours behind.
template <class T>
struct PixelSource {
  const T* x;          // its first channel
  bool inside;         // it exists
  bool below, behind;  // so does its neighbour there

  // Whether the pixel `rows` below and `columns` behind exists.
  __device__ bool has(int rows, int columns) const {
    return inside && (rows == 0 || below) && (columns == 0 || behind);
  }
};

template <class T>
__device__ inline PixelSource<T> pixel_source(const ConvTransposeArgs& args, Pixel first, int steps,
                                              std::int64_t index) {
  const Pixel pixel = pixel_behind(args, first, steps);
  return {static_cast<const T*>(args.x) + index * args.c_in, index < args.pixels,
          pixel.row % args.h + 1 < args.h, pixel.column + 1 < args.w};
}

// The output pixel of `parity` that belongs to an input pixel: its first channel's index in y.
__device__ inline std::int64_t output_index(const ConvTransposeArgs& args, Pixel pixel,
                                            int parity) {
  const std::int64_t row = 2 * pixel.row + parity / 2;
  return ((row * args.w + pixel.column) * 2 + parity % 2) * args.c_out;
}

// Four sums as output channels from `channel` on of the pixel that starts at `index`.
template <class T>
__device__ inline void store_typed(const ConvTransposeArgs& args, std::int64_t index, int channel,
                                   const float (&values)[4]) {
  T* y = static_cast<T*>(args.y) + index + channel;
  if (args.c_out % 4 == 0) {
    store_elements(values, y);
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (channel + k < args.c_out) y[k] = from_float<T>(values[k]);
  }
}

__device__ inline void store_sums(const ConvTransposeArgs& args, std::int64_t index, int channel,
                                  float (&sums)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (channel + k < args.c_out) sums[k] += args.bias[channel + k];
    if (args.relu && sums[k] < 0.0f) sums[k] = 0.0f;  // NaN stays
  }
  switch (args.y_type) {
    case DType::kBF16:
      return store_typed<BF16>(args, index, channel, sums);
    case DType::kF16:
      return store_typed<F16>(args, index, channel, sums);
    default:
      return store_typed<float>(args, index, channel, sums);
  }
}

}  // namespace tessera
