// Convolution, 3x3, 2x2 or 1x1, on tensor cores:  y = finish(sum over taps and channels of w x).
//
// Layouts: x (n, h, w, c) per source; w as cuda.h says; y (n, ho, wo, c_out).
// A block makes a tile of pixels x channels. 64 bytes of channels of its input pixels, with the
// halo, lie in shared memory once and serve all 9 taps through shifted ldmatrix addresses, so each
// pixel is read from L2 1.3 to 1.6 times instead of 9; weights stream through a ring of four
// stages, one tap each. Crop, concatenation and padding are copies of zero bytes. The order of a
// sum, blocks of channels, then taps, then channels, is that of every tile. f32 is rounded to tf32
// on its way. Roofline: tensor cores from about 64 channels, memory below. Share of it: not
// measured yet. Oracle: reference.cpp.
#include "kernels/ops/conv/staged_tile.cuh"

namespace tessera {

namespace {

constexpr int kStages = 4;  // of the ring of weights
constexpr int kChunk = 16;  // bytes that one cp.async copies, and one row of an 8x8 matrix
constexpr int kLine = kConvLineBytes;
constexpr int kLineChunks = kLine / kChunk;
constexpr int kStepChunks = 2;  // one mma multiplies 32 bytes of channels: 16 bf16 or 8 tf32
constexpr int kSteps = kLineChunks / kStepChunks;
static_assert(kSteps == 2);              // a source's last block has one step or both
constexpr int kStagingPad = 8;           // elements: a warp's writes of accumulators hit 32 banks
constexpr int kSharedLimit = 99 * 1024;  // of a block on the smallest GPU, sm_86

// kBlocks: blocks that an SM shall hold at once.
template <int kRowCount, int kColumnCount, int kChannelCount, int kWarpRows, int kWarpColumns,
          int kBlockCount>
struct MmaTile {
  static constexpr int kRows = kRowCount, kColumns = kColumnCount, kChannels = kChannelCount;
  static constexpr int kPixels = kRows * kColumns;
  static constexpr int kWarpsAcross = kWarpColumns;
  static constexpr int kThreads = 32 * kWarpRows * kWarpColumns;
  static constexpr int kBlocks = kBlockCount;
  static constexpr int kFragments = kPixels / kWarpRows / 16;    // of 16 pixels, per warp
  static constexpr int kOctets = kChannels / kWarpColumns / 8;   // of 8 channels, per warp
  static constexpr int kStagingPitch = kChannels + kStagingPad;  // elements
  static_assert(kRows % 2 == 0 && kColumns % 2 == 0, "2x2 windows must not cross tiles");
  static_assert(kColumns == 8 || kColumns == 16, "a fragment is whole rows of pixels");
  static_assert(kFragments * 16 * kWarpRows == kPixels);
  static_assert(kOctets % 2 == 0 && kOctets * 8 * kWarpColumns == kChannels);
};

template <class T, int kKernel, class Tile>
struct MmaShared {
  static constexpr int kPitch = Tile::kColumns + kKernel - 1;  // pixels of an input row
  static constexpr int kPixels = (Tile::kRows + kKernel - 1) * kPitch;
  // Blocks of channels that are copied ahead. 9 taps hide the copy of the next one; a 1x1 kernel
  // has one tap, and its pixels go through a ring as deep as that of the weights.
  static constexpr int kAhead = kKernel == 1 ? kStages - 1 : 1;
  static constexpr int kPixelBytes = kPixels * kLine;
  static constexpr int kWeightBytes = Tile::kChannels * kLine;
  static constexpr int kWeights = (kAhead + 1) * kPixelBytes;  // where the ring of weights begins
  static constexpr int kStaging = Tile::kPixels * Tile::kStagingPitch * static_cast<int>(sizeof(T));
  static constexpr int kLoop = kWeights + kStages * kWeightBytes;
  static constexpr int kBytes = kLoop > kStaging ? kLoop : kStaging;
  static_assert(kBytes <= kSharedLimit);
};

// Byte offset of a chunk of a line, 64 bytes of one pixel or output channel. Eight neighbouring
// lines, from any first one, put equal chunks into the 8 different quads of banks.
__device__ int swizzled(int line, int chunk) {
  return line * kLine + (chunk ^ (line >> 1 & (kLineChunks - 1))) * kChunk;
}

template <class T>
__device__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                             const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, float>) {
    ptx::mma_m16n8k8_tf32(sum, a, b, sum);
  } else {
    ptx::mma_m16n8k16<T>(sum, a, b, sum);
  }
}

// Pixels of one block of channels, with their halo, to shared memory; zero outside of the source
// and past its channels.
template <class T, int kKernel, class Tile>
__device__ void copy_pixels(const ConvArgs& args, const ConvArgs::Source& source, int first_channel,
                            const ConvPlace& place, std::byte* to) {
  using Shared = MmaShared<T, kKernel, Tile>;
  constexpr int kPerChunk = kChunk / sizeof(T);
  const T* x = static_cast<const T*>(source.x);
  for (int i = static_cast<int>(threadIdx.x); i < Shared::kPixels * kLineChunks;
       i += Tile::kThreads) {
    const int line = i / kLineChunks, chunk = i % kLineChunks;
    const int row = place.row + line / Shared::kPitch - args.top;
    const int column = place.column + line % Shared::kPitch - args.left;
    const int channel = first_channel + chunk * kPerChunk;
    const bool exists = inside(source, row, column) && channel < source.c;
    const T* from = exists ? x + index_of(source, place.image, row, column) + channel : x;
    ptx::cp_async<kChunk>(to + swizzled(line, chunk), from, exists ? kChunk : 0);
  }
}

// Weights of one block of channels and one tap; zero past c_out.
template <class Tile>
__device__ void copy_weights(const ConvArgs& args, int step, int first_channel, std::byte* to) {
  static_assert(Tile::kChannels * kLineChunks % Tile::kThreads == 0);
  const auto* weight = static_cast<const std::byte*>(args.weight);
  const std::byte* from = weight + std::int64_t{step} * args.c_out * kLine;
#pragma unroll
  for (int j = 0; j < Tile::kChannels * kLineChunks / Tile::kThreads; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * Tile::kThreads;
    const int line = i / kLineChunks, chunk = i % kLineChunks, channel = first_channel + line;
    const bool exists = channel < args.c_out;
    ptx::cp_async<kChunk>(to + swizzled(line, chunk),
                          exists ? from + channel * kLine + chunk * kChunk : weight,
                          exists ? kChunk : 0);
  }
}

// What this thread reads of the two operands: rows of 8x8 matrices for ldmatrix.
template <class T, int kKernel, class Tile>
struct MmaLane {
  using Shared = MmaShared<T, kKernel, Tile>;
  static constexpr int kFragmentLines = 16 / Tile::kColumns * Shared::kPitch;

  int pixel_line, pixel_chunk;    // of fragment 0
  int weight_line, weight_chunk;  // of octets 0 and 1

  __device__ MmaLane() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int pixel = warp / Tile::kWarpsAcross * Tile::kFragments * 16 + lane % 16;
    pixel_line = pixel / Tile::kColumns * Shared::kPitch + pixel % Tile::kColumns;
    pixel_chunk = lane / 16;
    weight_line = warp % Tile::kWarpsAcross * Tile::kOctets * 8 + lane / 16 * 8 + lane % 8;
    weight_chunk = lane / 8 % 2;
  }
};

// Adds the products of one tap with the first kCount steps of a block of channels: a constant, so
// that the reads of one step can be scheduled among the products of the step before it.
template <int kCount, class T, int kKernel, class Tile>
__device__ void multiply_tap(const MmaLane<T, kKernel, Tile>& lane, const std::byte* pixels,
                             const std::byte* weights, int tap,
                             float (&sum)[Tile::kFragments][Tile::kOctets][4]) {
  using Lane = MmaLane<T, kKernel, Tile>;
  const int shift = tap / kKernel * Lane::Shared::kPitch + tap % kKernel;
#pragma unroll
  for (int step = 0; step < kCount; ++step) {
    std::uint32_t a[Tile::kFragments][4], b[Tile::kOctets / 2][4];
#pragma unroll
    for (int i = 0; i < Tile::kFragments; ++i) {
      const int line = lane.pixel_line + shift + i * Lane::kFragmentLines;
      ptx::ldmatrix_x4(a[i], pixels + swizzled(line, step * kStepChunks + lane.pixel_chunk));
      if constexpr (std::is_same_v<T, float>) {
#pragma unroll
        for (std::uint32_t& value : a[i]) value = ptx::to_tf32(__uint_as_float(value));
      }
    }
#pragma unroll
    for (int j = 0; j < Tile::kOctets / 2; ++j) {
      const int line = lane.weight_line + j * 16;
      ptx::ldmatrix_x4(b[j], weights + swizzled(line, step * kStepChunks + lane.weight_chunk));
    }
#pragma unroll
    for (int i = 0; i < Tile::kFragments; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::kOctets; ++j) {
        const std::uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        multiply_add<T>(sum[i][j], a[i], pair);
      }
    }
  }
}

// Finished sums as y's type into shared memory, (pixels of the tile, kStagingPitch).
template <class T, class Tile>
__device__ void stage_tile(const ConvArgs& args, int first_channel,
                           const float (&sum)[Tile::kFragments][Tile::kOctets][4], T* staging) {
  constexpr int kPitch = Tile::kStagingPitch;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int pixel = warp / Tile::kWarpsAcross * Tile::kFragments * 16 + lane / 4;
  const int channel = warp % Tile::kWarpsAcross * Tile::kOctets * 8 + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < Tile::kOctets; ++j) {
    const ConvFinish<2> finish(args, first_channel + channel + j * 8);
#pragma unroll
    for (int i = 0; i < Tile::kFragments; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float pair[2] = {finish(sum[i][j][2 * half], 0), finish(sum[i][j][2 * half + 1], 1)};
        store_elements(pair, staging + (pixel + i * 16 + half * 8) * kPitch + channel + j * 8);
      }
    }
  }
}

// The tile as stage_tile leaves it, for what finishes and stores it.
template <class T, class Tile>
struct MmaStaged {
  static constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns, kThreads = Tile::kThreads;
  static constexpr int kChannels = Tile::kChannels;
  T* tile;
  __device__ T* at(int pixel, int channel) const {
    return tile + pixel * Tile::kStagingPitch + channel;
  }
};

template <class T, int kKernel, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    conv_mma_kernel(const __grid_constant__ ConvArgs args) {
  using Shared = MmaShared<T, kKernel, Tile>;
  constexpr int kTaps = kKernel * kKernel;
  constexpr int kPerBlock = kLine / static_cast<int>(sizeof(T));  // channels of a block
  constexpr int kPerStep = kPerBlock / kSteps;
  SIMT_DYN_SHARED(std::byte, s_bytes, 128);
  const ConvPlace place = place_of_block<Tile::kRows, Tile::kColumns, Tile::kChannels>(args);
  const MmaLane<T, kKernel, Tile> lane;

  const int first_blocks = (args.sources[0].c + kPerBlock - 1) / kPerBlock;
  const int blocks =
      first_blocks + (args.source_count > 1 ? (args.sources[1].c + kPerBlock - 1) / kPerBlock : 0);
  const auto source_of = [&](int block) -> const ConvArgs::Source& {
    return args.sources[block < first_blocks ? 0 : 1];
  };
  const auto channel_of = [&](int block) {
    return (block < first_blocks ? block : block - first_blocks) * kPerBlock;
  };
  const auto pixels_of = [&](int block) {
    return s_bytes + block % (Shared::kAhead + 1) * Shared::kPixelBytes;
  };
  const auto weights_of = [&](int step) {
    return s_bytes + Shared::kWeights + step % kStages * Shared::kWeightBytes;
  };
  const auto begin_copies = [&](int step, int block) {  // and close their group
    if (step < blocks * kTaps) copy_weights<Tile>(args, step, place.channel, weights_of(step));
    if (block >= 0 && block < blocks)
      copy_pixels<T, kKernel, Tile>(args, source_of(block), channel_of(block), place,
                                    pixels_of(block));
    ptx::cp_async_commit();
  };

  // Prologue: group i holds the weights of step i.
  for (int i = 0; i < kStages - 1; ++i) begin_copies(i, i < Shared::kAhead ? i : -1);

  // Multiply.
  float sum[Tile::kFragments][Tile::kOctets][4] = {};
  int step = 0;
  for (int block = 0; block < blocks; ++block) {
    const bool whole = source_of(block).c - channel_of(block) > kPerStep;  // more than one step
    for (int tap = 0; tap < kTaps; ++tap, ++step) {
      ptx::cp_async_wait<kStages - 2>();
      // Puts all threads' copies for this step before its reads, and the reads of the step before
      // it ahead of the copies that begin now, into the buffers it has left.
      __syncthreads();
      begin_copies(step + kStages - 1, tap == 0 ? block + Shared::kAhead : -1);
      if (whole) {
        multiply_tap<kSteps>(lane, pixels_of(block), weights_of(step), tap, sum);
      } else {
        multiply_tap<1>(lane, pixels_of(block), weights_of(step), tap, sum);
      }
    }
  }

  // Epilogue.
  T* staging = reinterpret_cast<T*>(s_bytes);
  __syncthreads();  // puts the last reads of operands before the tile that takes their place
  stage_tile<T, Tile>(args, place.channel, sum, staging);
  __syncthreads();  // puts the writes of the tile before its reads
  const MmaStaged<T, Tile> staged{staging};
  const int thread = static_cast<int>(threadIdx.x);
  if (has_epilogue(args)) {
    finish_tile<T>(args, place, staged, thread);
    __syncthreads();  // puts the finished tile before its reads
  }
  store_tile<T>(args, place, staged, thread);
  if (args.pooled != nullptr) pool_tile<T>(args, place, staged, thread);
}

template <class T, class Tile>
void launch(const ConvArgs& args, CudaStream stream) {
  const dim3 grid(conv_blocks(args, Tile::kRows, Tile::kColumns, Tile::kChannels));
  const dim3 block(Tile::kThreads);
  const auto of_size = [&](auto kernel) {
    constexpr int kKernel = decltype(kernel)::value;
    simt::launch(conv_mma_kernel<T, kKernel, Tile>, grid, block,
                 MmaShared<T, kKernel, Tile>::kBytes, stream, args);
  };
  switch (args.kernel) {
    case 1:
      return of_size(std::integral_constant<int, 1>());
    case 2:
      return of_size(std::integral_constant<int, 2>());
    default:
      return of_size(std::integral_constant<int, 3>());
  }
}

}  // namespace

void conv_mma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream) {
  with_element(args.x_type, [&](auto element) {
    using T = decltype(element);
    switch (tile) {
      case ConvTile::kMma128x128:
        return launch<T, MmaTile<8, 16, 128, 2, 2, 2>>(args, stream);
      case ConvTile::kMma256x64:
        return launch<T, MmaTile<16, 16, 64, 4, 1, 2>>(args, stream);
      case ConvTile::kMma256x32:
        return launch<T, MmaTile<16, 16, 32, 4, 1, 3>>(args, stream);
      default:
        return launch<T, MmaTile<8, 8, 64, 2, 2, 4>>(args, stream);
    }
  });
}

}  // namespace tessera
