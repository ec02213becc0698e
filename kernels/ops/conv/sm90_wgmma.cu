// Convolution, 3x3, bf16 or f16, on Hopper's tensor cores:  y = finish(sum over taps and channels).
//
// Layouts: x (n, h, w, c) per source; w as cuda.h says; y (n, ho, wo, c_out).
// The weights are wgmma's M and the pixels its N, so that N is large: 64 x 256 sums a warpgroup ask
// shared memory for 62% of its rate. A row of 8 pixels by 64 channels is one atom of the 128-byte
// swizzle. TMA copies the box of a tile's pixels with one row above and below once for each column
// of the filter, and the three rows of the filter are the same box read one atom further: 3 reads
// of L2 instead of 9. Crop, concatenation and padding are tensor maps and coordinates, zero
// outside. One warp keeps a ring of boxes full, another one of weights, two warpgroups multiply;
// blocks stay and take tile after tile. In pairs, two blocks of a cluster make neighbouring tiles
// of pixels: each reads half of their weights, for both. The order of a sum, blocks of 64 channels,
// then columns, then rows of the filter, then channels, is that of every tile here.
// Roofline: tensor cores; L2 gives a tile of 256 x 128 the 27 bytes a clock that it asks for, or
// nearly; a block of a pair asks for 19. Share of it: not measured yet (predicted:
// tools/bench/predict.py). Oracle: reference.cpp.
// Tried: the epilogue's loop over staged rows not unrolled keeps all sums alive, and spills.
// Tried: slices of the input channels, a block of a cluster each, whose sums met in distributed
// shared memory: UNet in pairs is predicted to take 586 us at batch 1 and 4126 us at batch 8; with
// slices of the layers of 512 channels and more, 584 and 4240.
#include "kernels/cuda/clusters.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/ops/conv/staged_tile.cuh"

namespace tessera {

namespace {

constexpr int kSide = 3, kTaps = kSide * kSide;
constexpr int kDepth = kConvWgmmaLineBytes / 2;  // channels of a block
constexpr int kStep = 16;                        // channels of one wgmma
constexpr int kColumns = 8;                      // pixels of a row of a box
static_assert(kConvWgmmaLineBytes == kSwizzleLine && kColumns * kSwizzleLine == kSwizzleAtom);
constexpr int kConsumers = 2;
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kWarpsOfGroup = kWarpgroup / 32;
// Of a thread; those of all three warpgroups fill a multiprocessor.
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
constexpr int kShared = 227 * 1024;             // of a block
constexpr unsigned kPair = 2, kBothOfPair = 3;  // blocks of a cluster, and a bit for each

// kChannelGroups consumers beside each other in channels share their pixels, and the others beside
// each other in pixels share their weights. kStaged: rows that the epilogue takes at once.
template <int kChannelGroups, int kRowCount, int kStaged, int kBoxCount>
struct WgmmaTile {
  static constexpr int kRows = kRowCount, kPixels = kRows * kColumns;  // of one consumer
  static constexpr int kPixelGroups = kConsumers / kChannelGroups;
  static constexpr int kChannels = kChannelGroups * kWgmmaRows;
  static constexpr int kSums = kPixels / 2;  // of a thread
  static constexpr int kStagedRows = kStaged;
  static constexpr int kBoxSlots = kBoxCount;
  static constexpr int kBoxBytes = (kRows + kSide - 1) * kSwizzleAtom;
  static constexpr int kTapBytes = kChannels * kSwizzleLine;
  static constexpr int kStagingBytes = kStaged * kSwizzleAtom;  // of one consumer
  static constexpr int kRest = kShared - 1024 - kBoxSlots * kBoxBytes - kConsumers * kStagingBytes;
  // All taps of one block of channels at most.
  static constexpr int kWeightSlots = kRest / kTapBytes < kTaps ? kRest / kTapBytes : kTaps;
  // Offsets in shared memory; boxes begin at 0.
  static constexpr int kWeights = kBoxSlots * kBoxBytes;
  static constexpr int kStaging = kWeights + kWeightSlots * kTapBytes;
  static constexpr int kBarriers = kStaging + kConsumers * kStagingBytes;
  static constexpr int kBytes =
      kBarriers + 2 * (kBoxSlots + kWeightSlots) * static_cast<int>(sizeof(std::uint64_t));
  static_assert(kBytes <= kShared && kWeightSlots >= 4);
  static_assert(kRows % kStaged == 0 && kStaged % 2 == 0,
                "2x2 windows must not cross what is staged");
  static_assert(kBoxSlots % kPixelGroups == 0, "a consumer meets its boxes in the same slots");
};

struct WgmmaArgs {
  ConvArgs conv;
  CUtensorMap pixels[2];  // of each source: the pixels that it contributes, and no others
  CUtensorMap weight, y;
  int row[2], column[2];  // of a source's map, where y's pixel (0, 0) has its first tap
  int blocks[2];          // of channels, of each source
  unsigned tiles;
  // Blocks of a cluster, 1 or kPair, make as many tiles at once, which are a group.
  unsigned cluster, groups;
  bool stored_by_tma;
};

template <class Tile>
struct WgmmaBarriers {
  std::uint64_t *box_full, *box_empty, *weight_full, *weight_empty;

  __device__ explicit WgmmaBarriers(std::byte* shared)
      : box_full(reinterpret_cast<std::uint64_t*>(shared + Tile::kBarriers)),
        box_empty(box_full + Tile::kBoxSlots),
        weight_full(box_empty + Tile::kBoxSlots),
        weight_empty(weight_full + Tile::kWeightSlots) {}

  __device__ void init(int cluster) const {
    constexpr int kWarps = kConsumers * kWarpsOfGroup;
    for (int i = 0; i < Tile::kBoxSlots; ++i) {
      ptx::mbar_init(box_full + i, 1);
      ptx::mbar_init(box_empty + i, kWarps / Tile::kPixelGroups);
    }
    for (int i = 0; i < Tile::kWeightSlots; ++i) {
      ptx::mbar_init(weight_full + i, 1);
      ptx::mbar_init(weight_empty + i, kWarps * cluster);
    }
    ptx::fence_mbar_init();
  }
};

// The tile of block `rank` of a cluster: blocks of a pair have neighbours in pixels, of the same
// channels. Where pixels are odd the last pair has one tile too many: it lies below the last row.
template <class Tile>
__device__ ConvPlace place_of(const WgmmaArgs& args, unsigned group, unsigned rank) {
  unsigned tile = group;
  if (args.cluster > 1) {
    const unsigned channels = (args.conv.c_out + Tile::kChannels - 1) / Tile::kChannels;
    tile = (group / channels * args.cluster + rank) * channels + group % channels;
  }
  ConvPlace place =
      place_of_tile<Tile::kRows, kColumns * Tile::kPixelGroups, Tile::kChannels>(args.conv, tile);
  if (tile >= args.tiles) place.row = (args.conv.ho + 1) / 2 * 2;
  return place;
}

// Whether all weights of this convolution stay in shared memory once they are there.
template <class Tile>
__device__ bool keeps_weights(const WgmmaArgs& args) {
  return Tile::kWeightSlots == kTaps && args.blocks[0] + args.blocks[1] == 1 &&
         args.conv.c_out <= Tile::kChannels;
}

// ---- Producers: one thread each

// Groups of tiles that this block's cluster makes.
template <class Visit>
__device__ void for_groups(const WgmmaArgs& args, Visit visit) {
  for (unsigned group = blockIdx.x / args.cluster; group < args.groups;
       group += gridDim.x / args.cluster)
    visit(group);
}

template <class Tile>
__device__ void produce_boxes(const WgmmaArgs& args, const WgmmaBarriers<Tile>& barriers,
                              std::byte* boxes, unsigned rank) {
  Ring<Tile::kBoxSlots> ring;
  for_groups(args, [&](unsigned of_cluster) {
    const ConvPlace place = place_of<Tile>(args, of_cluster, rank);
    for (int source = 0; source < args.conv.source_count; ++source) {
      const int row = place.row + args.row[source], column = place.column + args.column[source];
      for (int step = 0; step < args.blocks[source] * kSide; ++step) {
        for (int group = 0; group < Tile::kPixelGroups; ++group, ring.advance()) {
          std::uint64_t* const full = barriers.box_full + ring.slot;
          ptx::mbar_wait(barriers.box_empty + ring.slot, ring.parity ^ 1);
          ptx::mbar_arrive_expect_tx(full, Tile::kBoxBytes);
          ptx::tma_load(boxes + ring.slot * Tile::kBoxBytes, &args.pixels[source], full,
                        step / kSide * kDepth, column + group * kColumns + step % kSide, row,
                        place.image);
        }
      }
    }
  });
}

// Each block of a pair copies half of a tap to both. A barrier counts the bytes of both halves, of
// which the other block's may come before this one says how many there are: the phase does not end
// before. That block cannot be a phase ahead, since it waits for the consumers here.
template <class Tile>
__device__ void produce_weights(const WgmmaArgs& args, const WgmmaBarriers<Tile>& barriers,
                                std::byte* weights, unsigned rank) {
  const int blocks = args.blocks[0] + args.blocks[1];
  const bool kept = keeps_weights<Tile>(args), paired = args.cluster > 1;
  Ring<Tile::kWeightSlots> ring;
  bool first = true;
  for_groups(args, [&](unsigned group) {
    if (!first && kept) return;
    first = false;
    const int channel = place_of<Tile>(args, group, rank).channel;
    for (int step = 0; step < blocks * kSide; ++step) {
      for (int row = 0; row < kSide; ++row, ring.advance()) {
        std::uint64_t* const full = barriers.weight_full + ring.slot;
        std::byte* const to = weights + ring.slot * Tile::kTapBytes;
        const int tap = step / kSide * kTaps + row * kSide + step % kSide;
        // Until the consumers of every block that it is copied to have given the slot back.
        ptx::mbar_wait(barriers.weight_empty + ring.slot, ring.parity ^ 1);
        ptx::mbar_arrive_expect_tx(full, Tile::kTapBytes);
        if (paired) {
          const int part = static_cast<int>(rank) * (Tile::kChannels / kPair);
          ptx::tma_load_multicast(to + part * kSwizzleLine, &args.weight, full, kBothOfPair, 0,
                                  channel + part, tap);
        } else {
          ptx::tma_load(to, &args.weight, full, 0, channel, tap);
        }
      }
    }
  });
}

// ---- Epilogue

// What one consumer has staged: 64 channels of kStagedRows rows of 8 pixels, swizzled as TMA does.
template <class T, class Tile>
struct WgmmaStaged {
  static constexpr int kRows = Tile::kStagedRows, kColumns = tessera::kColumns;
  static constexpr int kChannels = kWgmmaRows, kThreads = kWarpgroup;
  std::byte* tile;

  __device__ T* at(int pixel, int channel) const {
    constexpr int kWide = kStagedWide<T>;
    const int chunk = channel / kWide ^ pixel % kColumns;
    return reinterpret_cast<T*>(tile + pixel * kSwizzleLine) + chunk * kWide + channel % kWide;
  }
};

template <class T>
using Pair = std::conditional_t<std::is_same_v<T, F16>, __half2, __nv_bfloat162>;

template <class T>
__device__ Pair<T> pair_of(float low, float high) {
  if constexpr (std::is_same_v<T, F16>) {
    return __floats2half2_rn(low, high);
  } else {
    return __floats2bfloat162_rn(low, high);
  }
}

// Finished sums of kStagedRows rows of the tile from `first` on. wgmma's sums are channels by
// pixels: a pair of neighbouring pixels of one channel each, which stmatrix transposes. Without a
// norm after ReLU a pair is rounded first and then cut at `least` in one instruction: the same
// number, in two thirds of the time, in which the tensor cores have nothing to do.
template <bool kAffine, class T, class Tile>
__device__ void stage_rows(const ConvFinish<1> (&finish)[2], Pair<T> least,
                           const float (&sum)[Tile::kSums], int first, int thread,
                           const WgmmaStaged<T, Tile>& staged) {
  constexpr int kOfRow = 4;  // sums: channels m and m + 8 of two pixels
  const int warp = thread / 32, lane = thread % 32;
  const int channel = warp * 16 + lane / 8 % 2 * 8;  // of the matrix whose address this lane gives
  const int pixel = lane / 16 * kColumns + lane % 8;
#pragma unroll
  for (int row = 0; row < Tile::kStagedRows; row += 2) {
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const ConvFinish<1>& f = finish[i % 2];
      const int at = (first + row + i / 2) * kOfRow + i % 2 * 2;
      const Pair<T> pair =
          kAffine ? pair_of<T>(f(sum[at], 0), f(sum[at + 1], 0))
                  : __hmax2_nan(pair_of<T>(sum[at] + f.bias[0], sum[at + 1] + f.bias[0]), least);
      pairs[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
    }
    ptx::stmatrix_x4_trans(staged.at(row * kColumns + pixel, channel), pairs);
  }
}

// `place` is that of the consumer's own pixels and channels.
template <class T, class Tile>
__device__ void store_sums(const WgmmaArgs& args, const ConvPlace& place,
                           const ConvFinish<1> (&finish)[2], const float (&sum)[Tile::kSums],
                           int thread, int barrier, const WgmmaStaged<T, Tile>& staged) {
  const ConvArgs& conv = args.conv;
  const float none = finish[0].relu ? 0.0f : -INFINITY;
  const Pair<T> least = pair_of<T>(none, none);
#pragma unroll  // sums are registers: rows that are stored need none any more
  for (int first = 0; first < Tile::kRows; first += Tile::kStagedRows) {
    ConvPlace at = place;
    at.row += first;
    if (thread == 0) ptx::tma_store_wait<0>();
    // Puts the reads of what was staged before, by threads and by TMA, ahead of these writes.
    ptx::bar_sync(barrier, kWarpgroup);
    if (finish[0].affine) {
      stage_rows<true, T, Tile>(finish, least, sum, first, thread, staged);
    } else {
      stage_rows<false, T, Tile>(finish, least, sum, first, thread, staged);
    }
    ptx::fence_proxy_async();
    ptx::bar_sync(barrier, kWarpgroup);  // puts the staged rows before their reads
    if (args.stored_by_tma) {
      if (thread == 0) {
        ptx::tma_store(&args.y, staged.tile, at.channel, at.column, at.row, at.image);
        ptx::tma_store_commit();
      }
    } else {
      if (has_epilogue(conv)) {
        finish_tile<T>(conv, at, staged, thread);
        ptx::bar_sync(barrier, kWarpgroup);  // puts the finished rows before their reads
      }
      store_tile<T>(conv, at, staged, thread);
    }
    if (conv.pooled != nullptr) pool_tile<T>(conv, at, staged, thread);
  }
}

// ---- Consumers

template <class T, class Tile>
__device__ void consume(const WgmmaArgs& args, const WgmmaBarriers<Tile>& barriers,
                        std::byte* shared, int consumer, int thread, unsigned rank) {
  constexpr bool kBesideInChannels = Tile::kPixelGroups == 1;
  const int pixel_group = kBesideInChannels ? 0 : consumer;
  const int channel_group = kBesideInChannels ? consumer : 0;
  const std::uint64_t boxes = wgmma_descriptor(shared);
  const std::uint64_t weights =
      wgmma_descriptor(shared + Tile::kWeights + channel_group * kWgmmaRows * kSwizzleLine);
  const WgmmaStaged<T, Tile> staged{shared + Tile::kStaging + consumer * Tile::kStagingBytes};
  const int steps = (args.blocks[0] + args.blocks[1]) * kSide;
  const bool kept = keeps_weights<Tile>(args);
  // The first lanes release for their warp, whose products have ended: pixels in this block,
  // weights in each that copies them here.
  const unsigned lane = thread % 32;
  const bool releases_weights = lane < args.cluster && !kept;
  const ptx::ClusterBarriers weight_empty =
      ptx::barriers_of(barriers.weight_empty, releases_weights ? lane : 0);

  Ring<Tile::kBoxSlots> box(pixel_group);
  Ring<Tile::kWeightSlots> weight;
  float sum[Tile::kSums] = {};
  for_groups(args, [&](unsigned group) {
    ConvPlace place = place_of<Tile>(args, group, rank);
    place.column += pixel_group * kColumns;
    place.channel += channel_group * kWgmmaRows;
    const int channel = place.channel + thread / 32 * 16 + thread % 32 / 4;
    const ConvFinish<1> finish[2] = {{args.conv, channel}, {args.conv, channel + 8}};

    // The products of one tap are under way while those of the next are issued; then the buffers
    // that only the former read are given back.
    int last_box = -1, last_weight = -1;
    const auto release_last = [&](bool with_box) {
      if (releases_weights && last_weight >= 0) ptx::mbar_arrive_at(weight_empty, last_weight);
      if (lane == 0 && last_box >= 0 && with_box) ptx::mbar_arrive(barriers.box_empty + last_box);
    };
    for (int step = 0; step < steps; ++step) {
      ptx::mbar_wait(barriers.box_full + box.slot, box.parity);
      const std::uint64_t pixels =
          boxes + static_cast<unsigned>(box.slot * (Tile::kBoxBytes / kDescribedUnit));
#pragma unroll
      for (int row = 0; row < kSide; ++row) {
        ptx::mbar_wait(barriers.weight_full + weight.slot, kept ? 0 : weight.parity);
        const std::uint64_t a =
            weights + static_cast<unsigned>(weight.slot * (Tile::kTapBytes / kDescribedUnit));
        const std::uint64_t b = pixels + row * (kSwizzleAtom / kDescribedUnit);
        ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < kDepth / kStep; ++k) {
          constexpr int kMove = kStep * 2 / kDescribedUnit;
          ptx::wgmma<T>(sum, a + k * kMove, b + k * kMove, step + row + k);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        release_last(row == 0);
        last_weight = weight.slot;
        weight.advance();
      }
      last_box = box.slot;
      box.advance(Tile::kPixelGroups);
    }
    ptx::wgmma_wait<0>();
    release_last(true);
    store_sums<T, Tile>(args, place, finish, sum, thread, 1 + consumer, staged);
  });
  if (thread == 0) ptx::tma_store_wait<0>();
}

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, 1)
    conv_wgmma_kernel(const __grid_constant__ WgmmaArgs args) {
  SIMT_DYN_SHARED(std::byte, s_bytes, 1024);
  const WgmmaBarriers<Tile> barriers(s_bytes);
  const bool clustered = args.cluster > 1;
  if (threadIdx.x == 0) barriers.init(static_cast<int>(args.cluster));
  // Puts the barriers' init before their first use, by any block of the cluster.
  if (clustered) {
    ptx::cluster_sync();
  } else {
    __syncthreads();
  }
  const unsigned rank = clustered ? ptx::cluster_rank() : 0;
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  // The same for all lanes of a warp, which the compiler cannot know otherwise.
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (group == kConsumers) {
    ptx::setmaxnreg_dec<kProducerRegisters>();
    if (thread == 0) produce_boxes<Tile>(args, barriers, s_bytes, rank);
    if (thread == 32) produce_weights<Tile>(args, barriers, s_bytes + Tile::kWeights, rank);
  } else {
    ptx::setmaxnreg_inc<kConsumerRegisters>();
    consume<T, Tile>(args, barriers, s_bytes, group, thread, rank);
  }
  // Puts the last arrivals at this block's barriers before its end. Copies into its weights have
  // ended: its consumers have waited for each.
  if (clustered) ptx::cluster_sync();
}

// ---- Launcher

// The pixels that a source contributes, as a tensor of its own: what lies beside them is zero.
CUtensorMap map_of(const ConvArgs::Source& source, DType dtype, int images, int box_rows) {
  const std::int64_t bytes = std::int64_t{source.c} * 2;
  const std::int64_t first = source.row_begin * source.pitch + source.column_begin + source.origin;
  return tensor_map({.base = static_cast<const std::byte*>(source.x) + first * bytes,
                     .dtype = dtype,
                     .rank = 4,
                     .extent = {source.c, source.column_end - source.column_begin,
                                source.row_end - source.row_begin, images},
                     .stride = {bytes, source.pitch * bytes, source.image * bytes},
                     .box = {kDepth, kColumns, box_rows, 1}});
}

unsigned multiprocessors() {
  constexpr const char* kWhat = "device of a convolution";
  int device = 0, count = 0;
  cuda_check(cudaGetDevice(&device), kWhat);
  cuda_check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), kWhat);
  return static_cast<unsigned>(count);
}

// In pairs where `cluster` is kPair. Where the device has no room for one, which a part of a GPU
// (MIG, MPS) may not have, their tiles are made one by one, to the same bytes.
template <class T, class Tile>
void launch(const ConvArgs& conv, unsigned cluster, CudaStream stream) {
  const auto kernel = conv_wgmma_kernel<T, Tile>;
  unsigned most = cluster == 1 ? 0
                               : resident_clusters(reinterpret_cast<const void*>(kernel), cluster,
                                                   kThreads, Tile::kBytes);
  if (most == 0) {
    cluster = 1;
    most = multiprocessors();
  }
  WgmmaArgs args{};
  args.conv = conv;
  args.cluster = cluster;
  int blocks = 0;
  for (int i = 0; i < conv.source_count; ++i) {
    const ConvArgs::Source& source = conv.sources[i];
    args.row[i] = -conv.top - source.row_begin;
    args.column[i] = -conv.left - source.column_begin;
    args.pixels[i] = map_of(source, conv.x_type, conv.n, Tile::kRows + kSide - 1);
    args.blocks[i] = (source.c + kDepth - 1) / kDepth;
    blocks += args.blocks[i];
  }
  const std::int64_t line = kSwizzleLine, y_pixel = std::int64_t{conv.c_out} * 2;
  args.weight = tensor_map({.base = conv.weight,
                            .dtype = conv.x_type,
                            .rank = 3,
                            .extent = {kDepth, conv.c_out, std::int64_t{blocks} * kTaps},
                            .stride = {line, conv.c_out * line},
                            .box = {kDepth, Tile::kChannels / static_cast<int>(cluster), 1}});
  args.stored_by_tma =
      conv.c_out % kStagedWide<T> == 0 && conv.residual.x == nullptr && conv.slopes == nullptr;
  if (args.stored_by_tma)
    args.y = tensor_map({.base = conv.y,
                         .dtype = conv.x_type,
                         .rank = 4,
                         .extent = {conv.c_out, conv.wo, conv.ho, conv.n},
                         .stride = {y_pixel, conv.wo * y_pixel, conv.ho * (conv.wo * y_pixel)},
                         .box = {kWgmmaRows, kColumns, Tile::kStagedRows, 1}});
  args.tiles = conv_blocks(conv, Tile::kRows, kColumns * Tile::kPixelGroups, Tile::kChannels);
  const unsigned channels = (conv.c_out + Tile::kChannels - 1) / Tile::kChannels;
  args.groups = (args.tiles / channels + cluster - 1) / cluster * channels;
  simt::launch_clusters(cluster, kernel, dim3((args.groups < most ? args.groups : most) * cluster),
                        dim3(kThreads), Tile::kBytes, stream, args);
}

template <class T>
void launch(const ConvArgs& args, ConvTile tile, CudaStream stream) {
  switch (tile) {
#define TESSERA_TILE(pixels, ...)                              \
  case ConvTile::kWgmma##pixels:                               \
    return launch<T, WgmmaTile<__VA_ARGS__>>(args, 1, stream); \
  case ConvTile::kWgmmaPair##pixels:                           \
    return launch<T, WgmmaTile<__VA_ARGS__>>(args, kPair, stream);
    TESSERA_TILE(256x128, 2, 32, 16, 3)
    TESSERA_TILE(224x128, 2, 28, 14, 3)
    TESSERA_TILE(208x128, 2, 26, 26, 3)
    TESSERA_TILE(176x128, 2, 22, 22, 3)
    TESSERA_TILE(160x128, 2, 20, 20, 3)
    TESSERA_TILE(128x128, 2, 16, 8, 4)
    TESSERA_TILE(64x128, 2, 8, 4, 4)
    TESSERA_TILE(512x64, 1, 32, 8, 4)
    TESSERA_TILE(448x64, 1, 28, 14, 4)
    TESSERA_TILE(416x64, 1, 26, 26, 4)
#undef TESSERA_TILE
    default:
      return;  // not a tile of wgmma
  }
}

}  // namespace

bool has_conv_wgmma() {
#if defined(__CUDACC__) && !defined(TESSERA_SM90A)
  return false;
#else
  return true;
#endif
}

void conv_wgmma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream) {
  if (args.x_type == DType::kF16) {
    launch<F16>(args, tile, stream);
  } else {
    launch<BF16>(args, tile, stream);
  }
}

}  // namespace tessera
