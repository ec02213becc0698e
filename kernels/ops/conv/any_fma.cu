// Convolution of any window, by f32 multiply-adds:  y = finish(sum over channels and taps of w x).
//
// Layouts: x (n, h, w, c) per source; w as cuda_any.h says; y (n, ho, wo, c_out). Any types.
// As a product of matrices: a block makes 64 pixels of 64 channels of a group; 16 steps of the
// reduction (sources, then taps, then channels) at a time lie in shared memory, pixels gathered
// through registers, weights by cp.async, in two buffers. A thread has the sums of 8 pixels by 4
// channels: 3 reads of 16 bytes for 32 multiply-adds. Pixels are counted through all images, so
// that small maps fill their blocks.
// Where groups are narrow a thread makes one channel of a pixel instead, or four of a depthwise
// convolution; neighbours read neighbouring weights, and share the pixels of their group.
// Every sum is one chain of fused multiply-adds, whatever the place: bytes do not depend on n, h
// or w.
// Roofline: f32 units; memory where few channels meet, as in a depthwise one. Share of it: not
// measured yet.
// Oracles: reference.cpp of conv and conv_transpose.
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/conv/cuda_any.cuh"

namespace tessera {

namespace {

constexpr int kPixels = 64, kChannels = 64, kDepth = kAnyConvDepth;
constexpr int kThreads = 128;
constexpr int kThreadPixels = 8;
constexpr int kBlocks = 4;                          // that an SM shall hold: 128 registers a thread
constexpr int kLoad = kPixels * kDepth / kThreads;  // elements of x that a thread gathers
constexpr int kLanesDown = kPixels / kThreadPixels;  // threads side by side along the pixels
static_assert(kLoad == 2 * kQuad && kThreadPixels == 2 * kQuad);
static_assert(kThreads / kLanesDown * kQuad == kChannels);
static_assert(kDepth * kChannels / kQuad % kThreads == 0);

// The reduction of one block's group: channels of each source in it, and the steps up to the end of
// each. Two names and no array, which an index would put into local memory.
struct Reduction {
  int first_width, second_width;
  int first_end, end;
  int channel;  // the group's first, of the only source

  __device__ Reduction(const AnyConvArgs& args, int group) {
    const int taps = args.axes[0].taps * args.axes[1].taps;
    first_width = args.conv.sources[0].c / args.groups;
    second_width = args.conv.source_count > 1 ? args.conv.sources[1].c : 0;
    first_end = taps * first_width;
    end = first_end + taps * second_width;
    channel = group * first_width;
  }
};

// kCount neighbours of the reduction from step `k` on, of one pixel; zero outside.
template <int kCount>
__device__ void gather(const AnyConvArgs& args, const Reduction& reduction, const AnyPixel& pixel,
                       int k, float* to) {
  float values[kCount] = {};
  if (k < reduction.end) {
    const bool first = k < reduction.first_end;
    const auto step = static_cast<unsigned>(first ? k : k - reduction.first_end);
    const auto width =
        static_cast<unsigned>(first ? reduction.first_width : reduction.second_width);
    const unsigned tap = step / width, across = static_cast<unsigned>(args.axes[1].taps);
    const int channel = static_cast<int>(step - tap * width) + reduction.channel;
    const int ky = static_cast<int>(tap / across), kx = static_cast<int>(tap % across);
    const int row = pixel.row + ky * args.axes[0].step;
    const int column = pixel.column + kx * args.axes[1].step;
    const ConvArgs::Source& source = args.conv.sources[first ? 0 : 1];
    if (inside(source, row, column))
      load_typed(source.x, index_of(source, pixel.image, row, column) + channel, args.conv.x_type,
                 values);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = values[i];
}

__global__ void __launch_bounds__(kThreads, kBlocks)
    any_conv_fma_kernel(const __grid_constant__ AnyConvArgs args) {
  SIMT_SHARED(float4, s_x_quads, [2][kDepth * kPixels / kQuad]);
  SIMT_SHARED(float4, s_w_quads, [2][kDepth * kChannels / kQuad]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const unsigned pixels = any_pixels(args);

  // Which block makes what: channels are neighbours, then groups, then pixels.
  const int width = args.conv.c_out / args.groups;  // output channels of a group
  const int padded = (width + kQuad - 1) / kQuad * kQuad;
  const auto tiles = static_cast<unsigned>((width + kChannels - 1) / kChannels);
  const int first_channel = static_cast<int>(blockIdx.x % tiles) * kChannels;
  const unsigned rest = blockIdx.x / tiles;
  const int group = static_cast<int>(rest % static_cast<unsigned>(args.groups));
  const unsigned first_pixel = rest / static_cast<unsigned>(args.groups) * kPixels;
  const Reduction reduction(args, group);
  const int steps = (reduction.end + kDepth - 1) / kDepth;

  // What this thread brings: half of the steps of one pixel, and quads of weights.
  const int load_pixel = thread % kPixels, load_k = thread / kPixels * kLoad;
  AnyPixel pixel{0, -(1 << 30), 0};  // outside of every source
  if (const unsigned at = first_pixel + static_cast<unsigned>(load_pixel); at < pixels)
    pixel = AnyPlace(args, at).reads(args);
  const bool quads = (reduction.first_width | reduction.second_width) % kQuad == 0;
  const float* weight = static_cast<const float*>(args.conv.weight) +
                        std::int64_t{group} * steps * kDepth * padded + first_channel;
  float next[kLoad];
  const auto load_next = [&](int step) {
    const int k = step * kDepth + load_k;
    if (quads) {
#pragma unroll
      for (int i = 0; i < kLoad; i += kQuad) gather<kQuad>(args, reduction, pixel, k + i, next + i);
    } else {
#pragma unroll
      for (int i = 0; i < kLoad; ++i) gather<1>(args, reduction, pixel, k + i, next + i);
    }
  };
  const auto copy_weights = [&](int step) {
    auto* to = reinterpret_cast<float*>(s_w_quads[step % 2]);
#pragma unroll
    for (int j = 0; j < kDepth * kChannels / kQuad / kThreads; ++j) {
      const int i = thread + j * kThreads, k = i / (kChannels / kQuad);
      const int channel = i % (kChannels / kQuad) * kQuad;
      const bool exists = first_channel + channel < padded;
      const std::int64_t row = std::int64_t{step} * kDepth + k;
      ptx::cp_async<16>(to + k * kChannels + channel,
                        exists ? weight + row * padded + channel : args.conv.weight,
                        exists ? 16 : 0);
    }
    ptx::cp_async_commit();
  };
  const auto store_next = [&](int step) {
    auto* to = reinterpret_cast<float*>(s_x_quads[step % 2]) + load_k * kPixels + load_pixel;
#pragma unroll
    for (int i = 0; i < kLoad; ++i) to[i * kPixels] = next[i];
  };

  // Multiply. Of its pixels a thread has two quads, half a tile apart.
  const int first_row = lane % kLanesDown * kQuad;
  const int channel = (warp * (32 / kLanesDown) + lane / kLanesDown) * kQuad;
  float sums[kThreadPixels][kQuad] = {};
  if (steps > 0) {
    copy_weights(0);
    load_next(0);
    store_next(0);
    ptx::cp_async_wait<0>();
  }
  __syncthreads();  // puts the writes of the first step before its reads
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) {
      copy_weights(step + 1);
      load_next(step + 1);
    }
    const auto* s_x = reinterpret_cast<const float*>(s_x_quads[step % 2]);
    const auto* s_w = reinterpret_cast<const float*>(s_w_quads[step % 2]);
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float w[kQuad];
      load_elements(s_w + k * kChannels + channel, w);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float x[kQuad];
        load_elements(s_x + k * kPixels + half * (kPixels / 2) + first_row, x);
#pragma unroll
        for (int i = 0; i < kQuad; ++i)
#pragma unroll
          for (int o = 0; o < kQuad; ++o)
            sums[half * kQuad + i][o] = fmaf(x[i], w[o], sums[half * kQuad + i][o]);
      }
    }
    if (more) store_next(step + 1);
    ptx::cp_async_wait<0>();
    // Puts the writes of the next step before its reads, and this one's reads before the writes of
    // the step after the next.
    __syncthreads();
  }

  // Epilogue.
  if (first_channel + channel >= width) return;
  const int group_first = group * width;
  const AnyFinish<kQuad> finish(args.conv, group_first + first_channel + channel,
                                group_first + width);
  const bool aligned = args.conv.c_out % kQuad == 0 && width % kQuad == 0;
#pragma unroll
  for (int i = 0; i < kThreadPixels; ++i) {
    const unsigned at =
        first_pixel + static_cast<unsigned>(i / kQuad * (kPixels / 2) + first_row + i % kQuad);
    if (at < pixels) finish.store(args, AnyPlace(args, at), aligned, sums[i]);
  }
}

// kCount: 4 of a depthwise convolution whose channels are whole quads, else 1.
template <int kCount>
__global__ void __launch_bounds__(kRowThreads)
    any_conv_channel_kernel(const __grid_constant__ AnyConvArgs args) {
  const ConvArgs& conv = args.conv;
  const int joined = conv.sources[0].c + (conv.source_count > 1 ? conv.sources[1].c : 0);
  const int c_in = joined / args.groups, c_out = conv.c_out / args.groups;  // of a group
  const int pitch = (conv.c_out + kQuad - 1) / kQuad * kQuad;
  const auto items = static_cast<unsigned>(conv.c_out / kCount);  // of a pixel
  const unsigned in_row = static_cast<unsigned>(conv.wo) * items;
  for_each_in_row(std::int64_t{conv.n} * conv.ho, in_row, [&](std::int64_t y_row, unsigned item) {
    const unsigned y_column = item / items;
    const int channel = static_cast<int>(item - y_column * items) * kCount;
    const AnyPlace place(args,
                         static_cast<unsigned>(y_row) * static_cast<unsigned>(conv.wo) + y_column);
    const AnyPixel pixel = place.reads(args);
    const int group_begin = channel / c_out * c_in, group_end = group_begin + c_in;
    float sums[kCount] = {};
    int before = 0;  // channels of the sources before this one
    for (int s = 0; s < conv.source_count; ++s) {
      const ConvArgs::Source& source = conv.sources[s];
      const int begin = group_begin > before ? group_begin - before : 0;
      const int end = group_end - before < source.c ? group_end - before : source.c;
      for (int ky = 0; ky < args.axes[0].taps; ++ky) {
        for (int kx = 0; kx < args.axes[1].taps; ++kx) {
          const int row = pixel.row + ky * args.axes[0].step;
          const int column = pixel.column + kx * args.axes[1].step;
          if (!inside(source, row, column)) continue;
          const std::int64_t from = index_of(source, pixel.image, row, column);
          const std::int64_t tap = std::int64_t{ky} * args.axes[1].taps + kx;
          const float* weight = static_cast<const float*>(conv.weight) + channel +
                                (tap * c_in + before - group_begin) * pitch;
          for (int i = begin; i < end; ++i) {
            float x[kCount], w[kCount];
            load_typed(source.x, from + i, conv.x_type, x);
            load_elements(weight + std::int64_t{i} * pitch, w);
#pragma unroll
            for (int k = 0; k < kCount; ++k) sums[k] = fmaf(x[k], w[k], sums[k]);
          }
        }
      }
      before += source.c;
    }
    const AnyFinish<kCount> finish(conv, channel, channel + kCount);
    finish.store(args, place, true, sums);
  });
}

}  // namespace

void any_conv_fma_cuda(const AnyConvArgs& args, CudaStream stream) {
  const auto pieces = [](std::int64_t extent, std::int64_t side) {
    return (extent + side - 1) / side;
  };
  const std::int64_t blocks = pieces(any_pixels(args), kPixels) * args.groups *
                              pieces(args.conv.c_out / args.groups, kChannels);
  simt::launch(any_conv_fma_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream,
               args);
}

void any_conv_channel_cuda(const AnyConvArgs& args, CudaStream stream) {
  const bool depthwise = args.conv.source_count == 1 && args.groups == args.conv.c_out &&
                         args.groups == args.conv.sources[0].c;
  with_quads(depthwise ? args.conv.c_out : 1, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    const std::int64_t rows = std::int64_t{args.conv.n} * args.conv.ho;
    const std::int64_t items = std::int64_t{args.conv.wo} * (args.conv.c_out / kCount);
    simt::launch(any_conv_channel_kernel<kCount>, row_grid(rows, items), dim3(kRowThreads), 0,
                 stream, args);
  });
}

}  // namespace tessera
