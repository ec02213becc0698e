// What the convolution kernels share: where a block's tile lies, where an input pixel lies, and
// what happens to a sum of products on its way to y.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/ops/conv/cuda.h"

namespace tessera {

// An output tile. Tiles of channels are neighbours in their order, then columns, rows and images:
// blocks that run together share input pixels in L2.
struct ConvPlace {
  int image, row, column, channel;
};

template <int kRows, int kColumns, int kChannels>
__device__ inline ConvPlace place_of_tile(const ConvArgs& args, unsigned tile) {
  const unsigned channels = (args.c_out + kChannels - 1) / kChannels;
  const unsigned columns = (args.wo + kColumns - 1) / kColumns;
  const unsigned rows = (args.ho + kRows - 1) / kRows;
  ConvPlace place;
  place.channel = static_cast<int>(tile % channels) * kChannels;
  tile /= channels;
  place.column = static_cast<int>(tile % columns) * kColumns;
  tile /= columns;
  place.row = static_cast<int>(tile % rows) * kRows;
  place.image = static_cast<int>(tile / rows);
  return place;
}

template <int kRows, int kColumns, int kChannels>
__device__ inline ConvPlace place_of_block(const ConvArgs& args) {
  return place_of_tile<kRows, kColumns, kChannels>(args, blockIdx.x);
}

// Blocks of a grid over all tiles; an output of 2^31 tiles exceeds any memory.
inline unsigned conv_blocks(const ConvArgs& args, int rows, int columns, int channels) {
  const auto tiles = [](int extent, int side) {
    return static_cast<std::int64_t>((extent + side - 1) / side);
  };
  return static_cast<unsigned>(args.n * tiles(args.ho, rows) * tiles(args.wo, columns) *
                               tiles(args.c_out, channels));
}

__device__ inline bool inside(const ConvArgs::Source& source, int row, int column) {
  return row >= source.row_begin && row < source.row_end && column >= source.column_begin &&
         column < source.column_end;
}

// Index of the first channel of a pixel that is inside.
__device__ inline std::int64_t index_of(const ConvArgs::Source& source, int image, int row,
                                        int column) {
  const std::int64_t pixel = image * source.image + row * source.pitch + column + source.origin;
  return pixel * source.c;
}

// Bias, ReLU and the norm after it for kCount channels from `channel`, a multiple of kCount, on.
// Comparisons let NaN pass, as the reference does.
template <int kCount>
struct ConvFinish {
  static_assert(kConvQuad % kCount == 0);
  float bias[kCount] = {}, scale[kCount] = {}, shift[kCount] = {};
  bool relu, affine;

  __device__ ConvFinish(const ConvArgs& args, int channel)
      : relu(args.relu && args.residual.x == nullptr), affine(args.scale != nullptr) {
    if (channel >= args.c_out) return;
    load_elements(args.bias + channel, bias);
    if (!affine) return;
    load_elements(args.scale + channel, scale);
    load_elements(args.shift + channel, shift);
  }
  __device__ float operator()(float sum, int i) const {
    float y = sum + bias[i];
    if (relu && y < 0.0f) y = 0.0f;
    return affine ? fmaf(y, scale[i], shift[i]) : y;
  }
};

// What an epilogue does behind the bias: a residual that is added, then ReLU, leaky where there are
// slopes. `slope` is the channel's.
__device__ inline bool has_epilogue(const ConvArgs& args) {
  return args.residual.x != nullptr || args.slopes != nullptr;
}
__device__ inline float finish_epilogue(const ConvArgs& args, float y, float slope) {
  if (!(y < 0.0f)) return y;  // NaN stays
  return args.slopes != nullptr ? y * slope : args.relu ? 0.0f : y;
}
// First channel of the residual's pixel that y's (image, row, column) adds.
__device__ inline std::int64_t residual_index(const ConvArgs& args, int image, int row,
                                              int column) {
  const Residual& r = args.residual;
  return (image * r.image + row * r.pitch + column + r.origin) * args.c_out;
}

// The maximum; NaN wins.
__device__ inline float conv_larger(float a, float b) {
  return b > a || b != b ? b : a;
}

}  // namespace tessera
