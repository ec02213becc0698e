// Convolution of any window on tensor cores:  y = finish(sum over taps and channels of w x).
//
// Layouts: x (n, h, w, c) per source; w (blocks, kh kw, c_out, 64 bytes); y (n, ho, wo, c_out).
// A product of matrices: a block makes 128 pixels of 64 channels. A step of the reduction is one
// tap of 64 bytes of channels; its pixels, wherever they lie, and its weights go through a ring of
// four stages by cp.async, where crop, concatenation and padding are copies of no bytes. So each
// pixel is read once for each tap, mostly from L1 and L2: what conv_mma_kernel avoids, and strides
// and dilations need. Pixels are counted through all images. The order of a sum is blocks of
// channels, then taps, then channels, as there. f32 is rounded to tf32 on its way. Roofline: L2 at
// 64 channels, tensor cores from about 128. Share of it: not measured yet. Oracle: reference.cpp.
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/ops/conv/cuda_any.cuh"

namespace tessera {

namespace {

constexpr int kPixels = 128, kChannels = 64;
constexpr int kThreads = 128, kBlocks = 3;  // that an SM shall hold at once
constexpr int kStages = 4;
constexpr int kWarpPixels = 64, kWarpChannels = 32;  // two by two warps
constexpr int kFragments = kWarpPixels / 16, kOctets = kWarpChannels / 8;
constexpr int kPixelBytes = kPixels * kTileRowBytes, kWeightBytes = kChannels * kTileRowBytes;
constexpr int kStageBytes = kPixelBytes + kWeightBytes;
constexpr int kLines = kThreads / kTileParts;  // rows of a tile that all threads copy at once
constexpr int kLoads = kPixels / kLines;       // pixels that a thread copies a part of
constexpr int kPitch = kChannels + 8;          // floats of the staged tile: no bank twice
constexpr int kSharedBytes = kStages * kStageBytes;
static_assert(kTileRowBytes == kConvLineBytes && kTileRowBytes == kTileParts * kTilePartBytes);
static_assert(kPixels / kWarpPixels * (kChannels / kWarpChannels) * 32 == kThreads);
static_assert(kPixels * kPitch * sizeof(float) <= kSharedBytes);
static_assert(kSharedBytes <= 48 * 1024, "more needs the process's leave");

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    any_conv_mma_kernel(const __grid_constant__ AnyConvArgs args) {
  constexpr int kPerPart = kTilePartBytes / static_cast<int>(sizeof(T));
  constexpr int kPerLine = kTileRowBytes / static_cast<int>(sizeof(T));
  SIMT_DYN_SHARED(std::uint8_t, s_bytes, 128);
  const ConvArgs& conv = args.conv;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const unsigned pixels = any_pixels(args);
  const auto tiles = static_cast<unsigned>((conv.c_out + kChannels - 1) / kChannels);
  const int first_channel = static_cast<int>(blockIdx.x % tiles) * kChannels;
  const unsigned first_pixel = blockIdx.x / tiles * kPixels;
  const int taps = args.axes[0].taps * args.axes[1].taps;
  const auto blocks_of = [&](int s) { return (conv.sources[s].c + kPerLine - 1) / kPerLine; };
  const int blocks = blocks_of(0) + (conv.source_count > 1 ? blocks_of(1) : 0);
  const int steps = blocks * taps;

  // What this thread copies: a part of every kLines-th pixel, and of every kLines-th channel.
  const int line = thread / kTileParts, part = thread % kTileParts;
  AnyPixel places[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const unsigned at = first_pixel + static_cast<unsigned>(line + j * kLines);
    places[j] = {0, -(1 << 30), 0};  // outside of every source
    if (at < pixels) places[j] = AnyPlace(args, at).reads(args);
  }
  int next = 0, source_index = 0, channel = 0, ky = 0, kx = 0;  // the step to be copied
  const auto begin_copies = [&] {  // of that step, and close their group
    if (next < steps) {
      std::uint8_t* to = s_bytes + next % kStages * kStageBytes;
      const ConvArgs::Source& source = conv.sources[source_index];
      const int c = channel + part * kPerPart;
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int row = places[j].row + ky * args.axes[0].step;
        const int column = places[j].column + kx * args.axes[1].step;
        const bool exists = inside(source, row, column) && c < source.c;
        const T* from = static_cast<const T*>(source.x);
        if (exists) from += index_of(source, places[j].image, row, column) + c;
        ptx::cp_async<kTilePartBytes>(to + tile_offset(line + j * kLines, part), from,
                                      exists ? kTilePartBytes : 0);
      }
      const auto* weight = static_cast<const std::uint8_t*>(conv.weight);
#pragma unroll
      for (int j = 0; j < kChannels / kLines; ++j) {
        const int o = first_channel + line + j * kLines;
        const bool exists = o < conv.c_out;
        const std::int64_t at =
            (std::int64_t{next} * conv.c_out + o) * kTileRowBytes + part * kTilePartBytes;
        ptx::cp_async<kTilePartBytes>(to + kPixelBytes + tile_offset(line + j * kLines, part),
                                      exists ? weight + at : weight, exists ? kTilePartBytes : 0);
      }
      ++next;
      if (++kx == args.axes[1].taps) kx = 0, ++ky;
      if (ky == args.axes[0].taps) ky = 0, channel += kPerLine;
      if (channel >= source.c) channel = 0, ++source_index;
    }
    ptx::cp_async_commit();
  };
  for (int i = 0; i < kStages - 1; ++i) begin_copies();

  // Multiply.
  const int warp_pixel = warp / 2 * kWarpPixels, warp_channel = warp % 2 * kWarpChannels;
  float sums[kFragments][kOctets][4] = {};
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kStages - 2>();
    // Puts all threads' copies for this step before its reads, and the reads of the step before it
    // ahead of the copies that begin now, into the stage it has left.
    __syncthreads();
    begin_copies();
    const std::uint8_t* s_x = s_bytes + step % kStages * kStageBytes;
    const std::uint8_t* s_w = s_x + kPixelBytes;
#pragma unroll
    for (int slice = 0; slice < kTileSlices; ++slice) {
      std::uint32_t left[kFragments][4], right[kOctets][2];
#pragma unroll
      for (int i = 0; i < kFragments; ++i) {
        load_left(s_x, warp_pixel + i * 16, slice, lane, left[i]);
        round_fragment<T>(left[i]);
      }
#pragma unroll
      for (int j = 0; j < kOctets; j += 2)
        load_right(s_w, warp_channel + j * 8, slice, lane, right[j], right[j + 1]);
#pragma unroll
      for (int i = 0; i < kFragments; ++i)
#pragma unroll
        for (int j = 0; j < kOctets; ++j) multiply_add<T>(left[i], right[j], sums[i][j]);
    }
  }

  // Epilogue: sums to shared memory, so that whole lines of y are stored.
  auto* staged = reinterpret_cast<float*>(s_bytes);
  __syncthreads();  // puts the last reads of operands before the tile that takes their place
#pragma unroll
  for (int i = 0; i < kFragments; ++i) {
#pragma unroll
    for (int j = 0; j < kOctets; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pixel = warp_pixel + i * 16 + half * 8 + lane / 4;
        const float pair[2] = {sums[i][j][2 * half], sums[i][j][2 * half + 1]};
        store_elements(pair, staged + pixel * kPitch + warp_channel + j * 8 + lane % 4 * 2);
      }
    }
  }
  __syncthreads();  // puts the writes of the tile before its reads
  const int quad = thread % (kChannels / kQuad) * kQuad;
  if (first_channel + quad >= conv.c_out) return;
  const AnyFinish<kQuad> finish(conv, first_channel + quad, conv.c_out);
  const bool aligned = conv.c_out % kQuad == 0;
  for (int pixel = thread / (kChannels / kQuad); pixel < kPixels;
       pixel += kThreads / (kChannels / kQuad)) {
    const unsigned at = first_pixel + static_cast<unsigned>(pixel);
    if (at >= pixels) return;
    float y[kQuad];
    load_elements(staged + pixel * kPitch + quad, y);
    finish.store(args, AnyPlace(args, at), aligned, y);
  }
}

}  // namespace

void any_conv_mma_cuda(const AnyConvArgs& args, CudaStream stream) {
  const auto pieces = [](std::int64_t extent, std::int64_t side) {
    return (extent + side - 1) / side;
  };
  const std::int64_t blocks =
      pieces(any_pixels(args), kPixels) * pieces(args.conv.c_out, kChannels);
  with_element(args.conv.x_type, [&](auto element) {
    simt::launch(any_conv_mma_kernel<decltype(element)>, dim3(static_cast<unsigned>(blocks)),
                 dim3(kThreads), kSharedBytes, stream, args);
  });
}

}  // namespace tessera
