// The end of a UNet:  mask = argmax(softmax or sigmoid([relu](W x + b))), per pixel.
//
// Layout: x (pixels, c_in), W (channels, classes) for the classes of a warp. 128 bytes of channels
// of 32 pixels at a time are copied into shared memory in whole sectors (16-byte parts swizzled, so
// that lanes read them without bank conflicts); each lane sums the logits of its pixel in registers
// with W out of L1, the same address for all lanes. Up to 32 classes stay in one lane to the end;
// more are summed by four warps and meet in shared memory. The order of a sum is that of channels.
// Roofline: memory, x's bytes (and 4 classes bytes if probabilities are asked for), up to about 10
// classes; then 2 c_in classes operations. Share of it: not measured yet.
// Oracle: reference.cpp. The mask is the argmax of the probabilities, not of the logits: rounding
// can make two equal, and the mask must not depend on whether somebody asked to see them.
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/ops/head/cuda.h"

namespace tessera {

namespace {

constexpr int kPixels = 32;       // of a tile: one per lane
constexpr int kChunkBytes = 128;  // of a pixel's channels, brought in together
constexpr int kPartBytes = 16;    // of one copy
constexpr int kParts = kChunkBytes / kPartBytes;
constexpr int kWarps = 8;   // of a block whose warps have tiles of their own
constexpr int kGroups = 4;  // of warps that share a tile's classes
constexpr int kMostPerLane = 32;

// A warp's shared memory: a chunk of a tile, then the tile's probabilities.
constexpr int kTileParts = kPixels * kParts;
constexpr int kProbabilityParts = staged_size(kPixels * kMostPerLane) * 4 / kPartBytes;
constexpr int kWarpParts = kTileParts > kProbabilityParts ? kTileParts : kProbabilityParts;
static_assert(kPixels == kWarp && kWarps * kWarpParts * kPartBytes <= 48 << 10);

// Part `part` of pixel `pixel`.
__device__ uint4* part_of(uint4* s_x, int pixel, int part) {
  return s_x + pixel * kParts + (part ^ pixel % kParts);
}

// Channels [channel, channel + one chunk) of `count` pixels from `first` on, by `threads` threads;
// zeros behind c_in and behind the last pixel. The copies may still be under way on return.
template <class T>
__device__ void copy_chunk(const HeadArgs& args, std::int64_t first, int count, int channel,
                           int thread, int threads, uint4* s_x) {
  constexpr int kVector = kPartBytes / sizeof(T), kChannels = kChunkBytes / sizeof(T);
  const T* x = static_cast<const T*>(args.x) + first * args.c_in + channel;
  const int channels = args.c_in - channel;
  if (args.c_in % kVector == 0) {
    for (int i = thread; i < kTileParts; i += threads) {
      const int pixel = i / kParts, part = i % kParts;
      const bool inside = pixel < count && part * kVector < channels;
      const T* from = x + (inside ? std::int64_t{pixel} * args.c_in + part * kVector : 0);
      ptx::cp_async<kPartBytes>(part_of(s_x, pixel, part), from, inside ? kPartBytes : 0);
    }
    ptx::cp_async_commit();
  } else {
#pragma unroll 8  // the whole loop would hold too many elements at once
    for (int i = thread; i < kPixels * kChannels; i += threads) {
      const int pixel = i / kChannels, c = i % kChannels;
      const bool inside = pixel < count && c < channels;
      reinterpret_cast<T*>(part_of(s_x, pixel, c / kVector))[c % kVector] =
          inside ? x[std::int64_t{pixel} * args.c_in + c] : from_float<T>(0.0f);
    }
  }
}

// Adds a chunk's products to the sums of the lane's pixel; `weights` (channels, kClasses).
template <class T, int kClasses>
__device__ void accumulate(uint4* s_x, int lane, int channels, const float* weights,
                           float (&sums)[kClasses]) {
  constexpr int kVector = kPartBytes / sizeof(T), kChannels = kChunkBytes / sizeof(T);
  constexpr int kQuad = 4;       // weights of one load
  constexpr int kProducts = 64;  // of a step at most: more would hold too many weights at once
  constexpr int kStep = kVector * kClasses < kProducts ? kVector : kProducts / kClasses;
  static_assert(kVector % kStep == 0);
  const int end = channels < kChannels ? channels : kChannels;
#pragma unroll 1
  for (int channel = 0; channel < end; channel += kStep) {
    float x[kStep];
    load_elements(
        reinterpret_cast<const T*>(part_of(s_x, lane, channel / kVector)) + channel % kVector, x);
    const float* from = weights + channel * kClasses;
#pragma unroll
    for (int i = 0; i < kStep * kClasses; i += kQuad) {
      float quad[kQuad];
      load_elements(from + i, quad);
#pragma unroll
      for (int j = 0; j < kQuad; ++j) {
        float& sum = sums[(i + j) % kClasses];
        sum = fmaf(x[(i + j) / kClasses], quad[j], sum);
      }
    }
  }
}

// Every lane has a pixel with all of its classes. Few classes: 80 registers let 24 warps of a
// multiprocessor copy at once, 96 KiB, which hides the memory's latency without double buffers.
template <class T, int kClasses>
__global__ void __launch_bounds__(kWarps* kWarp, kClasses <= 8 ? 3 : 2)
    head_lane_per_pixel_kernel(const HeadArgs args) {
  constexpr int kChannels = kChunkBytes / sizeof(T);
  SIMT_SHARED(uint4, s_all, [kWarps][kWarpParts]);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  uint4* s_x = s_all[warp];
  auto* s_probabilities = reinterpret_cast<float*>(s_x);
  const int classes = args.classes;
  const std::int64_t first = (std::int64_t{blockIdx.x} * kWarps + warp) * kPixels;
  if (first >= args.pixels) return;
  const std::int64_t left = args.pixels - first;
  const int count = static_cast<int>(left < kPixels ? left : kPixels);

  // Logits.
  float p[kClasses];
#pragma unroll
  for (int k = 0; k < kClasses; ++k) p[k] = args.bias[k];
  for (int channel = 0; channel < args.c_in; channel += kChannels) {
    copy_chunk<T>(args, first, count, channel, lane, kWarp, s_x);
    ptx::cp_async_wait<0>();
    __syncwarp();  // the chunk copied above before all lanes read it below
    accumulate<T>(s_x, lane, args.c_in - channel, args.weights + std::int64_t{channel} * kClasses,
                  p);
    __syncwarp();  // the reads above before the next chunk, or probabilities, overwrite it
  }

  // Probabilities.
  if (args.relu) {
#pragma unroll
    for (int k = 0; k < kClasses; ++k) p[k] = relu(p[k]);
  }
  if (args.sigmoid) {
#pragma unroll
    for (int k = 0; k < kClasses; ++k) p[k] = sigmoid(p[k]);
  } else {
    float largest = -INFINITY, sum = 0;
#pragma unroll
    for (int k = 0; k < kClasses; ++k) {
      if (k < classes) largest = fmaxf(largest, p[k]);
    }
#pragma unroll
    for (int k = 0; k < kClasses; ++k) {
      p[k] = expf(p[k] - largest);
      if (k < classes) sum += p[k];
    }
    const float scale = reciprocal(sum);
#pragma unroll
    for (int k = 0; k < kClasses; ++k) p[k] *= scale;
  }

  // Mask.
  Best best{p[0], classes == 1 && p[0] > 0.5f ? 1 : 0};
#pragma unroll
  for (int k = 1; k < kClasses; ++k) {
    if (k < classes && exceeds(p[k], best.value)) best = {p[k], k};
  }
  if (lane < count) args.mask[first + lane] = static_cast<std::uint8_t>(best.index);
  if (args.probabilities != nullptr) {
#pragma unroll
    for (int k = 0; k < kClasses; ++k) {
      if (k < classes) s_probabilities[staged(lane * classes + k)] = p[k];
    }
    __syncwarp();  // the probabilities above before other lanes store them below
    store_staged(s_probabilities, count * classes, lane, args.probabilities + first * classes);
  }
}

// Every lane has a pixel with a quarter of its classes.
template <class T, int kClasses>
__global__ void __launch_bounds__(kGroups* kWarp, 2)
    head_warp_per_group_kernel(const HeadArgs args) {
  constexpr int kChannels = kChunkBytes / sizeof(T);
  SIMT_SHARED(uint4, s_x, [kTileParts]);
  SIMT_DYN_SHARED(float, s_logits, 16);  // (kPixels, classes), then the probabilities
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const int classes = args.classes;
  const float* weights =
      args.weights + std::int64_t{warp} * args.c_packed * kClasses;  // of this warp's classes
  const std::int64_t first = std::int64_t{blockIdx.x} * kPixels;
  const std::int64_t left = args.pixels - first;
  const int count = static_cast<int>(left < kPixels ? left : kPixels);

  // Logits of the lane's pixel.
  float sums[kClasses];
#pragma unroll
  for (int k = 0; k < kClasses; ++k) sums[k] = args.bias[warp * kClasses + k];
  for (int channel = 0; channel < args.c_in; channel += kChannels) {
    copy_chunk<T>(args, first, count, channel, thread, kGroups * kWarp, s_x);
    ptx::cp_async_wait<0>();
    __syncthreads();  // the chunk copied above, by all warps, before it is read below
    accumulate<T>(s_x, lane, args.c_in - channel, weights + std::int64_t{channel} * kClasses, sums);
    __syncthreads();  // the reads above before the next chunk overwrites it
  }
#pragma unroll
  for (int k = 0; k < kClasses; ++k) {
    const int at = warp * kClasses + k;
    if (at < classes) s_logits[staged(lane * classes + at)] = args.relu ? relu(sums[k]) : sums[k];
  }
  __syncthreads();  // every warp's logits before any is read below

  // Probabilities and mask: a warp has every fourth pixel, a lane every 32nd class.
  for (int pixel = warp; pixel < count; pixel += kGroups) {
    const int begin = pixel * classes;
    float scale = 0;
    if (!args.sigmoid) {
      float largest = -INFINITY, sum = 0;
      for (int k = lane; k < classes; k += kWarp)
        largest = fmaxf(largest, s_logits[staged(begin + k)]);
      largest = max_of_warp(largest);
      for (int k = lane; k < classes; k += kWarp) {
        const float power = expf(s_logits[staged(begin + k)] - largest);
        s_logits[staged(begin + k)] = power;
        sum += power;
      }
      scale = reciprocal(sum_of_warp(sum));
    }
    Best best{NAN, lane};  // a lane has at least one class
    for (int k = lane; k < classes; k += kWarp) {
      const float value = s_logits[staged(begin + k)];
      const float p = args.sigmoid ? sigmoid(value) : value * scale;
      if (exceeds(p, best.value)) best = {p, k};
      if (args.probabilities != nullptr) args.probabilities[(first + pixel) * classes + k] = p;
    }
    best = best_of_warp(best);
    if (lane == 0) args.mask[first + pixel] = static_cast<std::uint8_t>(best.index);
  }
}

}  // namespace

void head_cuda(const HeadArgs& args, CudaStream stream) {
  const HeadTiling tiling = head_tiling(args.classes);
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto* kernel, int pixels, int threads, std::size_t shared) {
      const std::int64_t blocks = (args.pixels + pixels - 1) / pixels;
      simt::launch(kernel, dim3(static_cast<unsigned>(blocks)),
                   dim3(static_cast<unsigned>(threads)), shared, stream, args);
    };
    const auto launch_lane = [&](auto* kernel) {
      launch(kernel, kWarps * kPixels, kWarps * kWarp, 0);
    };
    const auto launch_group = [&](auto* kernel) {
      launch(kernel, kPixels, kGroups * kWarp,
             sizeof(float) * static_cast<std::size_t>(staged_size(kPixels * args.classes)));
    };
    if (tiling.groups == 1) {
      switch (tiling.per_lane) {
        case 2:
          return launch_lane(head_lane_per_pixel_kernel<T, 2>);
        case 4:
          return launch_lane(head_lane_per_pixel_kernel<T, 4>);
        case 8:
          return launch_lane(head_lane_per_pixel_kernel<T, 8>);
        case 16:
          return launch_lane(head_lane_per_pixel_kernel<T, 16>);
        default:
          return launch_lane(head_lane_per_pixel_kernel<T, 32>);
      }
    }
    switch (tiling.per_lane) {
      case 16:
        return launch_group(head_warp_per_group_kernel<T, 16>);
      case 32:
        return launch_group(head_warp_per_group_kernel<T, 32>);
      default:
        return launch_group(head_warp_per_group_kernel<T, 64>);
    }
  });
}

}  // namespace tessera
