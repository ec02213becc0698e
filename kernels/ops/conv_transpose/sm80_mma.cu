// Transposed convolution of stride 2 on tensor cores:  y[2 i - p + k] += W[k] x[i].
//
// Layout: x (n, h, w, c_in), y (n, 2h, 2w, c_out), W (taps, lines, c_out, 64 bytes of c_in). Output
// pixels of one parity are a matrix product: rows are input pixels, the reduction runs over the
// parity's taps (1; of a 3x3 kernel 1, 2, 2, 4) and c_in. Tiles of 64 bytes of the reduction come
// in by cp.async, four stages deep, pixels outside the image as zeros; warps multiply 64x32 or
// 32x32 by mma.sync. Sums cross shared memory once more, so that whole sectors are written.
// Roofline: 2 c_in c_out taps operations an input pixel, for c_in + 4 c_out elements moved:
// with 2x2, 2 bytes an element and c_out = c_in / 2, memory binds below c_in of about 300. Share of
// it: not measured yet.
// Oracle: reference.cpp. The order of a sum is tap, channel, whatever the tile: bytes do not depend
// on n, h, w or the tile. f32 is rounded to TF32.
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/ops/conv_transpose/cuda_device.cuh"

namespace tessera {

namespace {

constexpr int kPixels = 128;  // of a block
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kStages = 4;
constexpr int kWarpChannels = 32;
constexpr int kRow = 16, kColumns = 8;               // of one mma
constexpr int kQuad = 4;                             // sums that a thread stores together
constexpr int kRowsPerPass = kThreads / kTileParts;  // rows of a tile that all threads copy at once
constexpr int kSumPadding = 8;  // floats behind a row of sums: 8 rows start in different banks
static_assert(kTileRowBytes == kConvTransposeLineBytes);
static_assert(kPixels % kRowsPerPass == 0);

template <int kChannels>
struct Tiling {
  static constexpr int kAcross = kChannels / kWarpChannels;  // warps along channels
  static constexpr int kWarpPixels = kPixels * kAcross / kWarps;
  static constexpr int kPixelBytes = kPixels * kTileRowBytes;
  static constexpr int kStageBytes = kPixelBytes + kChannels * kTileRowBytes;
  static constexpr int kSumPitch = kChannels + kSumPadding;
  static constexpr int kSumBytes = kPixels * kSumPitch * static_cast<int>(sizeof(float));
  static constexpr int kBytes =
      kStages * kStageBytes > kSumBytes ? kStages* kStageBytes : kSumBytes;
  static_assert(kChannels % kRowsPerPass == 0 && kWarpPixels % kRow == 0);
};

template <class T, int kChannels>
__global__ void __launch_bounds__(kThreads, 2)
    conv_transpose_mma_kernel(const __grid_constant__ ConvTransposeArgs args) {
  using Tile = Tiling<kChannels>;
  constexpr int kVector = kTilePartBytes / sizeof(T), kLine = kTileRowBytes / sizeof(T);
  constexpr int kPixelPasses = kPixels / kRowsPerPass, kChannelPasses = kChannels / kRowsPerPass;
  constexpr int kMmaRows = Tile::kWarpPixels / kRow, kMmaColumns = kWarpChannels / kColumns;
  SIMT_DYN_SHARED(std::uint8_t, s_all, 128);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const BlockPlace place = block_place(args, kPixels, kChannels);
  const ParityTaps taps = args.taps[place.parity];
  const Pixel first = pixel_at(args, place.pixel);

  // What this thread copies: one part of some rows of each tile.
  const int part = thread % kTileParts, copy_row = thread / kTileParts;
  PixelSource<T> sources[kPixelPasses];
#pragma unroll
  for (int i = 0; i < kPixelPasses; ++i) {
    const int row = copy_row + i * kRowsPerPass;
    sources[i] = pixel_source<T>(args, first, row, place.pixel + row);
  }
  const int lines = (args.c_in + kLine - 1) / kLine;
  const T* weight = static_cast<const T*>(args.weight) +
                    std::int64_t{taps.first} * lines * args.c_out * kLine +
                    std::int64_t{place.channel + copy_row} * kLine + part * kVector;

  // The next tiles to copy: a tap's row and column, then a line of channels.
  int tap_row = 0, tap_column = 0, line = 0;
  const auto copy_next = [&](int stage) {
    std::uint8_t* s_stage = s_all + stage * Tile::kStageBytes;
    const int channel = line * kLine + part * kVector;
    const std::int64_t offset = (std::int64_t{tap_row} * args.w + tap_column) * args.c_in + channel;
#pragma unroll
    for (int i = 0; i < kPixelPasses; ++i) {
      const bool inside = sources[i].has(tap_row, tap_column) && channel < args.c_in;
      ptx::cp_async<kTilePartBytes>(
          s_stage + tile_offset(copy_row + i * kRowsPerPass, part),
          inside ? static_cast<const void*>(sources[i].x + offset) : args.x,
          inside ? kTilePartBytes : 0);
    }
#pragma unroll
    for (int i = 0; i < kChannelPasses; ++i) {
      const bool inside = place.channel + copy_row + i * kRowsPerPass < args.c_out;
      ptx::cp_async<kTilePartBytes>(
          s_stage + Tile::kPixelBytes + tile_offset(copy_row + i * kRowsPerPass, part),
          inside ? static_cast<const void*>(weight + i * kRowsPerPass * kLine) : args.weight,
          inside ? kTilePartBytes : 0);
    }
    weight += std::int64_t{args.c_out} * kLine;
    if (++line < lines) return;
    line = 0;
    if (++tap_column < taps.columns) return;
    tap_column = 0;
    ++tap_row;
  };

  // Multiply.
  const int warp_pixel = warp / Tile::kAcross * Tile::kWarpPixels;
  const int warp_channel = warp % Tile::kAcross * kWarpChannels;
  float sums[kMmaRows][kMmaColumns][4] = {};
  const int steps = taps.rows * taps.columns * lines;
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) copy_next(step);
    ptx::cp_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kStages - 2>();
    __syncthreads();  // this step's copies, by all threads, before they are read below; the last
                      // step's reads before its stage is copied into below
    if (step + kStages - 1 < steps) copy_next((step + kStages - 1) % kStages);
    ptx::cp_async_commit();
    const std::uint8_t* s_pixels = s_all + step % kStages * Tile::kStageBytes;
    const std::uint8_t* s_channels = s_pixels + Tile::kPixelBytes;
#pragma unroll
    for (int slice = 0; slice < kTileSlices; ++slice) {
      std::uint32_t left[kMmaRows][4], right[kMmaColumns][2];
#pragma unroll
      for (int i = 0; i < kMmaRows; ++i) {
        load_left(s_pixels, warp_pixel + i * kRow, slice, lane, left[i]);
        round_fragment<T>(left[i]);
      }
#pragma unroll
      for (int j = 0; j < kMmaColumns; j += 2) {
        load_right(s_channels, warp_channel + j * kColumns, slice, lane, right[j], right[j + 1]);
      }
#pragma unroll
      for (int i = 0; i < kMmaRows; ++i) {
#pragma unroll
        for (int j = 0; j < kMmaColumns; ++j) multiply_add<T>(left[i], right[j], sums[i][j]);
      }
    }
  }

  // Epilogue. No copy is under way: the groups after the last step's are empty.
  __syncthreads();  // the last reads of the stages before sums overwrite them
  auto* s_sums = reinterpret_cast<float*>(s_all);  // (kPixels, kSumPitch)
#pragma unroll
  for (int i = 0; i < kMmaRows; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaColumns; ++j) {
      const int row = warp_pixel + i * kRow + lane / 4;
      const int column = warp_channel + j * kColumns + lane % 4 * 2;
      float* s_upper = s_sums + row * Tile::kSumPitch + column;
      float* s_lower = s_upper + kRow / 2 * Tile::kSumPitch;
      *reinterpret_cast<float2*>(s_upper) = {sums[i][j][0], sums[i][j][1]};
      *reinterpret_cast<float2*>(s_lower) = {sums[i][j][2], sums[i][j][3]};
    }
  }
  __syncthreads();  // all sums before they are read below
  constexpr int kQuads = kChannels / kQuad;
  for (int i = thread; i < kPixels * kQuads; i += kThreads) {
    const int row = i / kQuads, column = i % kQuads * kQuad;
    if (place.pixel + row >= args.pixels || place.channel + column >= args.c_out) continue;
    float values[kQuad];
    load_elements(s_sums + row * Tile::kSumPitch + column, values);
    store_sums(args, output_index(args, pixel_behind(args, first, row), place.parity),
               place.channel + column, values);
  }
}

template <int kChannels>
void launch(const ConvTransposeArgs& args, CudaStream stream) {
  with_element(args.x_type, [&](auto element) {
    simt::launch(conv_transpose_mma_kernel<decltype(element), kChannels>,
                 block_grid(args, kPixels, kChannels), dim3(kThreads), Tiling<kChannels>::kBytes,
                 stream, args);
  });
}

}  // namespace

void conv_transpose_mma_cuda(const ConvTransposeArgs& args, ConvTransposeTile tile,
                             CudaStream stream) {
  if (tile == ConvTransposeTile::kMma128x128) {
    launch<128>(args, stream);
  } else {
    launch<64>(args, stream);
  }
}

}  // namespace tessera
