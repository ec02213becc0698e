// Backward of Embedding: row `id` of the table's gradient gets the sum of the rows of dy at its
// places.
//
// The places are sorted by their ids, stably, so that those of an id lie side by side in order: a
// radix sort of 8 bits a pass, in which a warp counts the digits of its places, one block turns the
// counts into offsets, and the warp moves its places there, 32 at a time. Then a warp sums the rows
// of dy of its segment of the sorted places, lanes side by side over the features. An id that ends
// where it began, in one segment, is added to the table at once. One that goes on leaves a tail in
// the segment where it begins and a head in each that follows; the block of the first adds them
// up. So each row of the table has one writer, and the order of its sum depends on the ids alone.
// Roofline: memory; dy once, each row of the table that occurs twice, 16 bytes a place and pass.
// Share of it: not measured yet. Oracle: train/reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/embedding/train/cuda.h"

namespace tessera {

namespace {

constexpr unsigned kAllLanes = ~0u;
constexpr int kWarp = 32;
constexpr int kDigitBits = 8;
static_assert(kEmbeddingDigits == 1 << kDigitBits);

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kSumBlocks = 4;  // per multiprocessor: at most 128 registers
constexpr int kScanThreads = 1024, kScanWarps = kScanThreads / kWarp;
constexpr int kJoinWarps = 8, kJoinThreads = kJoinWarps * kWarp;
constexpr int kDepth = 8;  // rows of dy in flight in a lane

// One pass of the sort.
struct SortArgs {
  const std::int32_t* keys;    // (count): the ids themselves in the first pass
  const std::int32_t* places;  // (count); null in the first pass: 0, 1, ...
  std::int32_t* sorted_keys;
  std::int32_t* sorted_places;
  std::int32_t* offsets;  // (kEmbeddingDigits, units)
  std::int64_t count, units;
  int words, shift;
};

// The places of one warp, 32 at a time; body(at, key, digit, peers): `peers` are the lanes of the
// same digit; lanes behind the last place have none.
template <class Body>
__device__ inline void for_each_place(const SortArgs& args, std::int64_t unit, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t begin = unit * kEmbeddingUnit;
  for (std::int64_t first = begin; first < begin + kEmbeddingUnit && first < args.count;
       first += kWarp) {
    const std::int64_t at = first + lane;
    const bool takes_part = at < args.count;
    const int key = takes_part ? min(max(args.keys[at], 0), args.words - 1) : 0;
    const int digit = key >> args.shift & (kEmbeddingDigits - 1);
    unsigned peers = __ballot_sync(kAllLanes, takes_part);
#pragma unroll
    for (int bit = 0; bit < kDigitBits; ++bit) {
      const bool is_set = (digit >> bit & 1) != 0;
      const unsigned set = __ballot_sync(kAllLanes, is_set);
      peers &= is_set ? set : ~set;
    }
    body(at, key, digit, takes_part ? peers : 0u);
  }
}

__global__ void __launch_bounds__(kThreads) embedding_count_kernel(SortArgs args) {
  SIMT_SHARED(std::int32_t, s_all, [kWarps][kEmbeddingDigits]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  auto& s_counts = s_all[threadIdx.x / kWarp];
  const std::int64_t unit = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (unit >= args.units) return;
  for (int digit = lane; digit < kEmbeddingDigits; digit += kWarp) s_counts[digit] = 0;
  for_each_place(args, unit, [&](std::int64_t, int, int digit, unsigned peers) {
    __syncwarp();  // the zeros, or the counts of the places before
    if (peers != 0 && lane == __ffs(static_cast<int>(peers)) - 1) s_counts[digit] += __popc(peers);
  });
  __syncwarp();  // all counts before their reads
  for (int digit = lane; digit < kEmbeddingDigits; digit += kWarp)
    args.offsets[digit * args.units + unit] = s_counts[digit];
}

// Replaces each count by the sum of those before it.
__global__ void __launch_bounds__(kScanThreads)
    embedding_offsets_kernel(std::int32_t* offsets, std::int64_t count) {
  SIMT_SHARED(std::int32_t, s_sums, [kScanWarps]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  std::int32_t before = 0;  // of all earlier rounds
  for (std::int64_t first = 0; first < count; first += kScanThreads) {
    const bool takes_part = first + thread < count;
    const std::int32_t own = takes_part ? offsets[first + thread] : 0;
    std::int32_t sum = own;  // of this lane and those before it
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const std::int32_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
      if (lane >= distance) sum += other;
    }
    if (lane == kWarp - 1) s_sums[warp] = sum;
    __syncthreads();  // the warps' sums before their reads
    std::int32_t of_warps = 0, all = 0;
    for (int other = 0; other < kScanWarps; ++other) {
      if (other < warp) of_warps += s_sums[other];
      all += s_sums[other];
    }
    if (takes_part) offsets[first + thread] = before + of_warps + sum - own;
    before += all;
    __syncthreads();  // these reads before the sums of the next round
  }
}

__global__ void __launch_bounds__(kThreads) embedding_move_kernel(SortArgs args) {
  SIMT_SHARED(std::int32_t, s_all, [kWarps][kEmbeddingDigits]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  auto& s_next = s_all[threadIdx.x / kWarp];
  const std::int64_t unit = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (unit >= args.units) return;
  for (int digit = lane; digit < kEmbeddingDigits; digit += kWarp)
    s_next[digit] = args.offsets[digit * args.units + unit];
  for_each_place(args, unit, [&](std::int64_t at, int key, int digit, unsigned peers) {
    __syncwarp();  // the offsets, or those that the places before left
    const std::int32_t next = s_next[digit];
    __syncwarp();  // these reads before the write below
    if (peers == 0) return;
    const int rank = __popc(peers & ((1u << lane) - 1));
    if (rank == 0) s_next[digit] = next + __popc(peers);
    args.sorted_keys[next + rank] = key;
    args.sorted_places[next + rank] =
        args.places != nullptr ? args.places[at] : static_cast<std::int32_t>(at);
  });
}

// What the sums over sorted places read.
struct SumArgs {
  const std::int32_t* keys;
  const std::int32_t* places;
  const float* dy;
  float* gradient;
  float* heads;
  float* tails;
  std::int64_t count, segments;
  int features;
};

template <int kCount>
__device__ inline void add_elements(const float (&terms)[kCount], float* to) {
  float sum[kCount];
  load_elements(to, sum);
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum[i] += terms[i];
  store_elements(sum, to);
}

// Whether the id at the first place of a segment began in an earlier one.
__device__ inline bool continues(const SumArgs& args, std::int64_t first, int key) {
  return first > 0 && first < args.count && args.keys[first - 1] == key && args.keys[first] == key;
}

template <int kCount>
__global__ void __launch_bounds__(kThreads, kSumBlocks) embedding_sum_kernel(SumArgs args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t segment = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const std::int64_t begin = segment * kEmbeddingSegment;
  if (begin >= args.count) return;
  const std::int64_t end =
      begin + kEmbeddingSegment < args.count ? begin + kEmbeddingSegment : args.count;
  const int first_key = args.keys[begin];
  const bool has_head = continues(args, begin, first_key);
  const bool goes_on = continues(args, end, args.keys[end - 1]);

  for (int column = lane * kCount; column - lane * kCount < args.features;
       column += kWarp * kCount) {
    const bool takes_part = column < args.features;
    int current = first_key;
    bool is_first = true;  // the id with which the segment begins
    float sum[kCount] = {};
    const auto leave = [&](bool is_last) {
      if (!takes_part) return;
      const std::int64_t at = segment * args.features + column;
      if (is_first && has_head) {
        store_elements(sum, args.heads + at);
      } else if (is_last && goes_on) {
        store_elements(sum, args.tails + at);
      } else {
        add_elements(sum, args.gradient + std::int64_t{current} * args.features + column);
      }
    };
    for (std::int64_t first = begin; first < end; first += kWarp) {
      const int count = static_cast<int>(end - first < kWarp ? end - first : kWarp);
      const int own_key = lane < count ? args.keys[first + lane] : 0;
      const int own_place = lane < count ? args.places[first + lane] : 0;
      for (int i = 0; i < count; i += kDepth) {
        float rows[kDepth][kCount] = {};
#pragma unroll
        for (int k = 0; k < kDepth; ++k) {
          const std::int64_t place = __shfl_sync(kAllLanes, own_place, (i + k) % kWarp);
          if (i + k < count && takes_part)
            load_elements(args.dy + place * args.features + column, rows[k]);
        }
#pragma unroll
        for (int k = 0; k < kDepth; ++k) {
          const int key = __shfl_sync(kAllLanes, own_key, (i + k) % kWarp);
          if (i + k >= count) continue;
          if (key != current) {
            leave(false);
            current = key;
            is_first = false;
#pragma unroll
            for (int e = 0; e < kCount; ++e) sum[e] = 0;
          }
#pragma unroll
          for (int e = 0; e < kCount; ++e) sum[e] += rows[k][e];
        }
      }
    }
    leave(true);
  }
}

// Adds to the table the ids that begin in the block's segment and go on behind it.
template <int kCount>
__global__ void __launch_bounds__(kJoinThreads) embedding_join_kernel(SumArgs args) {
  SIMT_SHARED(float4, s_parts, [kJoinThreads * kCount / 4]);
  auto* s_sums = reinterpret_cast<float*>(s_parts);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const std::int64_t segment = blockIdx.x, begin = segment * kEmbeddingSegment;
  const std::int64_t end = begin + kEmbeddingSegment;
  if (end >= args.count) return;
  const int key = args.keys[end - 1];
  if (!continues(args, end, key) || continues(args, begin, key)) return;

  // The first segment behind it that does not begin with the id.
  std::int64_t least = segment + 1, last = args.segments;
  while (least < last) {
    const std::int64_t middle = least + (last - least) / 2;
    if (args.keys[middle * kEmbeddingSegment] == key) {
      least = middle + 1;
    } else {
      last = middle;
    }
  }
  for (int column = lane * kCount; column - lane * kCount < args.features;
       column += kWarp * kCount) {
    float sum[kCount] = {};
    if (column < args.features) {
#pragma unroll 4
      for (std::int64_t head = segment + 1 + warp; head < last; head += kJoinWarps) {
        float terms[kCount];
        load_elements(args.heads + head * args.features + column, terms);
#pragma unroll
        for (int e = 0; e < kCount; ++e) sum[e] += terms[e];
      }
    }
    store_elements(sum, s_sums + thread * kCount);
    __syncthreads();  // the warps' sums before their reads
    if (warp == 0 && column < args.features) {
      float total[kCount];
      load_elements(args.tails + segment * args.features + column, total);
      for (int other = 0; other < kJoinWarps; ++other) {
        load_elements(s_sums + (other * kWarp + lane) * kCount, sum);
#pragma unroll
        for (int e = 0; e < kCount; ++e) total[e] += sum[e];
      }
      add_elements(total, args.gradient + std::int64_t{key} * args.features + column);
    }
    __syncthreads();  // these reads before the sums of the next columns
  }
}

}  // namespace

void embedding_backward_cuda(const EmbeddingBackwardArgs& args, CudaStream stream) {
  if (args.count == 0) return;
  const auto blocks = [](std::int64_t warps) {
    return dim3(static_cast<unsigned>((warps + kWarps - 1) / kWarps));
  };
  const std::int64_t units = embedding_units(args.count);
  const std::int32_t *keys = args.ids, *places = nullptr;
  int pass = 0;
  do {
    const SortArgs sort{
        keys,       places, args.keys[pass % 2], args.places[pass % 2], args.offsets,
        args.count, units,  args.words,          pass * kDigitBits};
    simt::launch(embedding_count_kernel, blocks(units), dim3(kThreads), 0, stream, sort);
    simt::launch(embedding_offsets_kernel, dim3(1), dim3(kScanThreads), 0, stream, args.offsets,
                 kEmbeddingDigits * units);
    simt::launch(embedding_move_kernel, blocks(units), dim3(kThreads), 0, stream, sort);
    keys = sort.sorted_keys;
    places = sort.sorted_places;
    ++pass;
  } while ((std::int64_t{args.words} - 1) >> (pass * kDigitBits) > 0);

  const std::int64_t segments = embedding_segments(args.count);
  const SumArgs sums{keys,       places,     args.dy,  args.gradient, args.heads,
                     args.tails, args.count, segments, args.features};
  const auto launch = [&](auto* sum, auto* join) {
    simt::launch(sum, blocks(segments), dim3(kThreads), 0, stream, sums);
    simt::launch(join, dim3(static_cast<unsigned>(segments)), dim3(kJoinThreads), 0, stream, sums);
  };
  constexpr int kWide = 4;  // floats of 16 bytes
  const auto is_aligned = [](const float* p) {
    return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  };
  if (args.features % kWide == 0 && is_aligned(args.dy) && is_aligned(args.gradient)) {
    launch(embedding_sum_kernel<kWide>, embedding_join_kernel<kWide>);
  } else {
    launch(embedding_sum_kernel<1>, embedding_join_kernel<1>);
  }
}

}  // namespace tessera
