// What kernels of any window share: where a pixel reads, and how sums become y.
#pragma once

#include "kernels/cuda/typed.cuh"
#include "kernels/ops/conv/cuda_any.h"
#include "kernels/ops/conv/cuda_device.cuh"

namespace tessera {

// A pixel that is made: its image, and the first row and column of the joined map that it reads.
struct AnyPixel {
  int image, row, column;
};

__host__ __device__ inline unsigned any_pixels(const AnyConvArgs& args) {
  return static_cast<unsigned>(args.conv.n) * static_cast<unsigned>(args.conv.ho) *
         static_cast<unsigned>(args.conv.wo);
}

// Where a pixel that is made lies. Pixels of all images are counted in 32 bits: a division of 64 is
// a call, which spills registers where many are live.
struct AnyPlace {
  int image, row, column;

  __device__ AnyPlace(const AnyConvArgs& args, unsigned pixel) {
    const auto wo = static_cast<unsigned>(args.conv.wo), ho = static_cast<unsigned>(args.conv.ho);
    const unsigned rows = pixel / wo;
    column = static_cast<int>(pixel - rows * wo);
    image = static_cast<int>(rows / ho);
    row = static_cast<int>(rows % ho);
  }
  __device__ AnyPixel reads(const AnyConvArgs& args) const {
    return {image, row * args.axes[0].stride + args.axes[0].first,
            column * args.axes[1].stride + args.axes[1].first};
  }
  __device__ std::int64_t y_pixel(const AnyConvArgs& args) const {
    const AnyConvAxis &down = args.axes[0], &across = args.axes[1];
    const std::int64_t y_row =
        std::int64_t{image} * down.size + std::int64_t{row} * down.spread + down.offset;
    return y_row * across.size + std::int64_t{column} * across.spread + across.offset;
  }
};

// What is done to the sums of kCount channels from `channel` on, of which `count` exist.
template <int kCount>
struct AnyFinish {
  int channel, count;
  float bias[kCount] = {}, slope[kCount] = {}, scale[kCount] = {}, shift[kCount] = {};

  // `end` is behind the last channel of the group.
  __device__ AnyFinish(const ConvArgs& args, int first, int end)
      : channel(first), count(end - first < kCount ? end - first : kCount) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if (k >= count) continue;
      bias[k] = args.bias[channel + k];
      if (args.slopes != nullptr) slope[k] = args.slopes[channel + k];
      if (args.scale == nullptr) continue;
      scale[k] = args.scale[channel + k];
      shift[k] = args.shift[channel + k];
    }
  }

  // Finishes the sums and stores them. `aligned`: all channels exist and begin at whole quads.
  __device__ void store(const AnyConvArgs& any, const AnyPlace& place, bool aligned,
                        float (&y)[kCount]) const {
    const ConvArgs& args = any.conv;
    const std::int64_t index = place.y_pixel(any) * args.c_out + channel;
    float added[kCount] = {};
    if (args.residual.x != nullptr) {
      const void* x = args.residual.x;
      const std::int64_t at = residual_index(args, place.image, place.row, place.column) + channel;
      if (aligned) {
        load_typed(x, at, args.y_type, added);
      } else {
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          float one[1] = {};
          if (k < count) load_typed(x, at + k, args.y_type, one);
          added[k] = one[0];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      y[k] += bias[k];
      if (args.residual.x != nullptr) y[k] += added[k];
      y[k] = finish_epilogue(args, y[k], slope[k]);
      if (args.scale != nullptr) y[k] = fmaf(y[k], scale[k], shift[k]);
    }
    if (aligned) {
      store_typed(y, args.y, index, args.y_type);
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const float one[1] = {y[k]};
        if (k < count) store_typed(one, args.y, index + k, args.y_type);
      }
    }
  }
};

}  // namespace tessera
