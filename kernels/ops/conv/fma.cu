// Convolution, 3x3, 2x2 or 1x1, by f32 multiply-adds:  y = finish(sum over channels and taps of w
// x).
//
// Layouts: x (n, h, w, c) per source; w as cuda.h says; y (n, ho, wo, c_out). Any types, channels.
// A block makes a tile of pixels x channels; pixels, with their halo, and weights of four input
// channels lie in shared memory, in two buffers. A thread makes 2x4 pixels of up to 8 channels:
// it reads a patch of 4x6 pixels into registers once for all 9 taps (22 multiply-adds a 16-byte
// read). Every sum is one chain of fused multiply-adds, channels, then taps.
// Roofline: f32 units; memory where c_in is 1 to 4, whose loop is as short as c_in. Share of it:
// not measured yet.  Oracle: reference.cpp.
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/conv/cuda_device.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 128;
constexpr int kPatchRows = 2, kPatchColumns = 4;  // pixels of a thread
constexpr int kDepth = 4;                         // input channels of a stage
constexpr int kBlocks = 3;  // that an SM shall hold at once: 168 registers a thread
static_assert(kDepth == kConvQuad);
static_assert(kPatchRows == 2 && kPatchColumns % 2 == 0, "2x2 windows must not cross patches");

// kPerThread: output channels of a thread.
template <int kRowCount, int kColumnCount, int kChannelCount, int kPerThreadCount>
struct SimtTile {
  static constexpr int kRows = kRowCount, kColumns = kColumnCount, kChannels = kChannelCount;
  static constexpr int kPerThread = kPerThreadCount;
  static constexpr int kChannelGroups = kChannels / kPerThread;
  static constexpr int kQuads = kPerThread / kConvQuad;
  static constexpr int kQuadStep = kChannelGroups * kConvQuad;
  static_assert(kRows % kPatchRows == 0 && kColumns % kPatchColumns == 0);
  static_assert(kPerThread % kConvQuad == 0);
  static_assert(kRows / kPatchRows * (kColumns / kPatchColumns) * kChannelGroups == kThreads);
};

template <int kKernel, class Tile>
struct SimtShared {
  static constexpr int kHalo = kKernel - 1, kTaps = kKernel * kKernel;
  static constexpr int kInputRows = Tile::kRows + kHalo, kInputColumns = Tile::kColumns + kHalo;
  // Whole quads, so that a thread reads its patch by 16 bytes; what they add to a row is zero.
  static constexpr int kColumns = (kInputColumns + kConvQuad - 1) / kConvQuad * kConvQuad;
  static constexpr int kPitch = 24;  // floats: patches one above the other lie 16 banks apart
  static_assert(kPitch >= kColumns && kPitch % kConvQuad == 0);
  static constexpr int kPixels = kInputRows * kColumns;
  static constexpr int kPlane = kInputRows * kPitch;                  // floats of one channel
  static constexpr int kItems = (kPixels + kThreads - 1) / kThreads;  // pixels that a thread loads
  alignas(16) float pixels[2][kDepth][kPlane];
  alignas(16) float weights[2][kDepth * kTaps][Tile::kChannels];
};

__device__ float load_one(const void* x, std::int64_t index, DType type) {
  float one[1];
  load_typed(x, index, type, one);
  return one[0];
}

// The four channels from `channel` on of a pixel of y or pooled, as many as exist.
__device__ void store_channels(const float (&from)[kConvQuad], const ConvArgs& args, void* y,
                               std::int64_t pixel, int channel) {
  const std::int64_t index = pixel * args.c_out + channel;
  if (args.c_out % kConvQuad == 0) return store_typed(from, y, index, args.y_type);
#pragma unroll
  for (int k = 0; k < kConvQuad; ++k) {
    const float one[1] = {from[k]};
    if (k < args.c_out - channel) store_typed(one, y, index + k, args.y_type);
  }
}

// Adds the residual of one pixel and activates, for the four channels from `channel` on.
__device__ void finish_channels(const ConvArgs& args, const ConvPlace& place, int row, int column,
                                int channel, float (&y)[kConvQuad]) {
  const std::int64_t at =
      args.residual.x == nullptr ? 0 : residual_index(args, place.image, row, column) + channel;
#pragma unroll
  for (int k = 0; k < kConvQuad; ++k) {
    if (channel + k >= args.c_out) continue;
    if (args.residual.x != nullptr) y[k] += load_one(args.residual.x, at + k, args.y_type);
    y[k] = finish_epilogue(args, y[k], args.slopes != nullptr ? args.slopes[channel + k] : 0.0f);
  }
}

// What a thread makes of its block's tile.
template <class Tile>
struct SimtLane {
  int group;        // of channels: quads from group * kConvQuad on, kQuadStep apart
  int row, column;  // of the first pixel

  __device__ SimtLane() {
    constexpr int kPatches = Tile::kColumns / kPatchColumns;  // side by side
    const int thread = static_cast<int>(threadIdx.x), patch = thread / Tile::kChannelGroups;
    group = thread % Tile::kChannelGroups;
    row = patch / kPatches * kPatchRows;
    column = patch % kPatches * kPatchColumns;
  }
};

// Input channels of one stage.
struct SimtStage {
  int source;
  int channel;  // of the source
  int count;    // 1 to kDepth
  int weight;   // channel of the joined input
};

// Pixels of one stage, with their halo, to registers: item i of a thread is pixel i * kThreads +
// threadIdx.x.
template <int kKernel, class Tile>
__device__ void load_pixels(const ConvArgs& args, const SimtStage& stage, const ConvPlace& place,
                            float (&items)[SimtShared<kKernel, Tile>::kItems][kDepth]) {
  using Shared = SimtShared<kKernel, Tile>;
  const ConvArgs::Source& source = args.sources[stage.source];
#pragma unroll
  for (int i = 0; i < Shared::kItems; ++i) {
    const int pixel = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = place.row + pixel / Shared::kColumns - args.top;
    const int column = place.column + pixel % Shared::kColumns - args.left;
#pragma unroll
    for (float& value : items[i]) value = 0.0f;
    const bool needed = pixel < Shared::kPixels && pixel % Shared::kColumns < Shared::kInputColumns;
    if (!needed || !inside(source, row, column)) continue;
    const std::int64_t index = index_of(source, place.image, row, column) + stage.channel;
    if (source.c % kDepth == 0) {
      load_typed(source.x, index, args.x_type, items[i]);
    } else {
#pragma unroll
      for (int c = 0; c < kDepth; ++c)
        if (c < stage.count) items[i][c] = load_one(source.x, index + c, args.x_type);
    }
  }
}

template <int kKernel, class Tile>
__device__ void stage_pixels(const float (&items)[SimtShared<kKernel, Tile>::kItems][kDepth],
                             float (&to)[kDepth][SimtShared<kKernel, Tile>::kPlane]) {
  using Shared = SimtShared<kKernel, Tile>;
#pragma unroll
  for (int i = 0; i < Shared::kItems; ++i) {
    const int pixel = i * kThreads + static_cast<int>(threadIdx.x);
    if (pixel >= Shared::kPixels) continue;
    const int at = pixel / Shared::kColumns * Shared::kPitch + pixel % Shared::kColumns;
#pragma unroll
    for (int c = 0; c < kDepth; ++c) to[c][at] = items[i][c];
  }
}

// Weights of one stage; zero past c_out.
template <int kKernel, class Tile>
__device__ void copy_weights(const ConvArgs& args, const SimtStage& stage, int first_channel,
                             float (*to)[Tile::kChannels]) {
  constexpr int kTaps = kKernel * kKernel, kQuads = Tile::kChannels / kConvQuad;
  const auto* weight = static_cast<const float*>(args.weight);
  const int pitch = (args.c_out + kConvQuad - 1) / kConvQuad * kConvQuad;
  for (int i = static_cast<int>(threadIdx.x); i < stage.count * kTaps * kQuads; i += kThreads) {
    const int k = i / kQuads, quad = i % kQuads * kConvQuad, channel = first_channel + quad;
    const bool exists = channel < args.c_out;
    const std::int64_t row = std::int64_t{stage.weight} * kTaps + k;
    ptx::cp_async<16>(to[k] + quad, exists ? weight + row * pitch + channel : weight,
                      exists ? 16 : 0);
  }
}

__device__ void read_quad(const float* from, float* to) {
  const float4 quad = *reinterpret_cast<const float4*>(from);
  to[0] = quad.x, to[1] = quad.y, to[2] = quad.z, to[3] = quad.w;
}

// Adds the products of `count` input channels.
template <int kKernel, class Tile>
__device__ void multiply(const float (*pixels)[SimtShared<kKernel, Tile>::kPlane],
                         const float (*weights)[Tile::kChannels], int count,
                         float (&sum)[kPatchRows][kPatchColumns][Tile::kPerThread]) {
  using Shared = SimtShared<kKernel, Tile>;
  constexpr int kRows = kPatchRows + Shared::kHalo;
  constexpr int kColumns = kKernel == 1 ? kPatchColumns : 2 * kPatchColumns;  // whole quads
  const SimtLane<Tile> lane;
  for (int c = 0; c < count; ++c) {
    float x[kRows][kColumns];
#pragma unroll
    for (int ky = 0; ky < kKernel; ++ky) {
      const int first = ky == 0 ? 0 : ky + kPatchRows - 1;  // row of the patch not yet read
#pragma unroll
      for (int i = first; i < ky + kPatchRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; j += kConvQuad)
          read_quad(&pixels[c][(lane.row + i) * Shared::kPitch + lane.column + j], &x[i][j]);
      }
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx) {
        const float* from = weights[c * Shared::kTaps + ky * kKernel + kx] + lane.group * kConvQuad;
        float w[Tile::kPerThread];
#pragma unroll
        for (int quad = 0; quad < Tile::kQuads; ++quad)
          read_quad(from + quad * Tile::kQuadStep, &w[quad * kConvQuad]);
#pragma unroll
        for (int i = 0; i < kPatchRows; ++i)
#pragma unroll
          for (int j = 0; j < kPatchColumns; ++j)
#pragma unroll
            for (int o = 0; o < Tile::kPerThread; ++o)
              sum[i][j][o] = fmaf(x[i + ky][j + kx], w[o], sum[i][j][o]);
      }
    }
  }
}

template <class Tile>
__device__ void store_tile(const ConvArgs& args, const ConvPlace& place,
                           const float (&sum)[kPatchRows][kPatchColumns][Tile::kPerThread]) {
  const SimtLane<Tile> lane;
  const int row = place.row + lane.row, column = place.column + lane.column;
#pragma unroll
  for (int quad = 0; quad < Tile::kQuads; ++quad) {
    const int channel = place.channel + quad * Tile::kQuadStep + lane.group * kConvQuad;
    if (channel >= args.c_out) continue;
    const ConvFinish<kConvQuad> finish(args, channel);
    float y[kPatchRows][kPatchColumns][kConvQuad];
#pragma unroll
    for (int i = 0; i < kPatchRows; ++i) {
#pragma unroll
      for (int j = 0; j < kPatchColumns; ++j) {
#pragma unroll
        for (int o = 0; o < kConvQuad; ++o) y[i][j][o] = finish(sum[i][j][quad * kConvQuad + o], o);
        if (row + i >= args.ho || column + j >= args.wo) continue;
        if (has_epilogue(args)) finish_channels(args, place, row + i, column + j, channel, y[i][j]);
        const std::int64_t image_row = std::int64_t{place.image} * args.ho + row + i;
        store_channels(y[i][j], args, args.y, image_row * args.wo + column + j, channel);
      }
    }
    if (args.pooled == nullptr) continue;
    const int ho = args.ho / 2, wo = args.wo / 2;
#pragma unroll
    for (int j = 0; j < kPatchColumns; j += 2) {
      if (row / 2 >= ho || (column + j) / 2 >= wo) continue;
      float best[kConvQuad];
#pragma unroll
      for (int o = 0; o < kConvQuad; ++o)
        best[o] = conv_larger(conv_larger(y[0][j][o], y[0][j + 1][o]),
                              conv_larger(y[1][j][o], y[1][j + 1][o]));
      const std::int64_t image_row = std::int64_t{place.image} * ho + row / 2;
      store_channels(best, args, args.pooled, image_row * wo + (column + j) / 2, channel);
    }
  }
}

template <int kKernel, class Tile>
__global__ void __launch_bounds__(kThreads, kBlocks)
    conv_fma_kernel(const __grid_constant__ ConvArgs args) {
  using Shared = SimtShared<kKernel, Tile>;
  SIMT_SHARED(Shared, s_stages, [1]);
  const ConvPlace place = place_of_block<Tile::kRows, Tile::kColumns, Tile::kChannels>(args);

  const auto depth_of = [&](const SimtStage& stage) {
    const int left = args.sources[stage.source].c - stage.channel;
    return left < kDepth ? left : kDepth;
  };
  const auto next_of = [&](SimtStage stage) {
    stage.channel += stage.count;
    stage.weight += stage.count;
    if (stage.channel == args.sources[stage.source].c) ++stage.source, stage.channel = 0;
    stage.count = stage.source < args.source_count ? depth_of(stage) : 0;  // 0: behind the last
    return stage;
  };

  // First stage.
  float items[Shared::kItems][kDepth];
  SimtStage stage{0, 0, 0, 0};
  stage.count = depth_of(stage);
  copy_weights<kKernel, Tile>(args, stage, place.channel, s_stages[0].weights[0]);
  load_pixels<kKernel, Tile>(args, stage, place, items);
  stage_pixels<kKernel, Tile>(items, s_stages[0].pixels[0]);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();  // puts the writes of the first stage before its reads

  // Multiply one stage while the next one is on its way.
  float sum[kPatchRows][kPatchColumns][Tile::kPerThread] = {};
  for (int buffer = 0; stage.count > 0; buffer ^= 1) {
    const SimtStage next = next_of(stage);
    if (next.count > 0) {
      copy_weights<kKernel, Tile>(args, next, place.channel, s_stages[0].weights[buffer ^ 1]);
      load_pixels<kKernel, Tile>(args, next, place, items);
    }
    ptx::cp_async_commit();
    multiply<kKernel, Tile>(s_stages[0].pixels[buffer], s_stages[0].weights[buffer], stage.count,
                            sum);
    if (next.count > 0) stage_pixels<kKernel, Tile>(items, s_stages[0].pixels[buffer ^ 1]);
    ptx::cp_async_wait<0>();
    // Puts the writes of the next stage before its reads, and this one's reads before the writes
    // of the stage after the next.
    __syncthreads();
    stage = next;
  }
  store_tile<Tile>(args, place, sum);
}

template <class Tile>
void launch(const ConvArgs& args, CudaStream stream) {
  const dim3 grid(conv_blocks(args, Tile::kRows, Tile::kColumns, Tile::kChannels));
  switch (args.kernel) {
    case 1:
      return simt::launch(conv_fma_kernel<1, Tile>, grid, dim3(kThreads), 0, stream, args);
    case 2:
      return simt::launch(conv_fma_kernel<2, Tile>, grid, dim3(kThreads), 0, stream, args);
    default:
      return simt::launch(conv_fma_kernel<3, Tile>, grid, dim3(kThreads), 0, stream, args);
  }
}

}  // namespace

void conv_fma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream) {
  if (tile == ConvTile::kFma128x64) {
    launch<SimtTile<8, 16, 64, 8>>(args, stream);
  } else {
    launch<SimtTile<16, 16, 16, 4>>(args, stream);
  }
}

}  // namespace tessera
