// A tile of finished sums that lies in shared memory as y's type, and its way to global memory.
//
// `Staged` says how it lies: kRows x kColumns pixels of kChannels channels, `at(pixel, channel)`
// the address of an element, behind which the rest of its 16 bytes follows, and how many threads
// share the work. Between two of these functions, and before the first, the caller has a barrier.
#pragma once

#include "kernels/ops/conv/cuda_device.cuh"

namespace tessera {

template <class T>
inline constexpr int kStagedWide = 16 / static_cast<int>(sizeof(T));

// Adds the residual and activates, in place; rounded in between, as if they were operators behind.
template <int kCount, class T, class Staged>
__device__ void finish_elements(const ConvArgs& args, const ConvPlace& place, const Staged& staged,
                                int thread) {
  constexpr int kGroups = Staged::kChannels / kCount;
  for (int i = thread; i < Staged::kRows * Staged::kColumns * kGroups; i += Staged::kThreads) {
    const int pixel = i / kGroups, group = i % kGroups * kCount, channel = place.channel + group;
    const int row = place.row + pixel / Staged::kColumns,
              column = place.column + pixel % Staged::kColumns;
    if (row >= args.ho || column >= args.wo || channel >= args.c_out) continue;
    T* const at = staged.at(pixel, group);
    float y[kCount], added[kCount] = {};
    load_elements(at, y);
    if (args.residual.x != nullptr)
      load_elements(static_cast<const T*>(args.residual.x) +
                        residual_index(args, place.image, row, column) + channel,
                    added);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if (args.residual.x != nullptr) y[k] += added[k];
      y[k] = finish_epilogue(args, y[k], args.slopes != nullptr ? args.slopes[channel + k] : 0.0f);
    }
    store_elements(y, at);
  }
}

// kCount channels of every pixel of the tile to y.
template <int kCount, class T, class Staged>
__device__ void store_elements_of(const ConvArgs& args, const ConvPlace& place,
                                  const Staged& staged, int thread) {
  constexpr int kGroups = Staged::kChannels / kCount;
  for (int i = thread; i < Staged::kRows * Staged::kColumns * kGroups; i += Staged::kThreads) {
    const int pixel = i / kGroups, group = i % kGroups * kCount, channel = place.channel + group;
    const int row = place.row + pixel / Staged::kColumns,
              column = place.column + pixel % Staged::kColumns;
    if (row >= args.ho || column >= args.wo || channel >= args.c_out) continue;
    const std::int64_t index = (std::int64_t{place.image} * args.ho + row) * args.wo + column;
    using Vector = Elements<T, kCount>;
    *reinterpret_cast<Vector*>(static_cast<T*>(args.y) + index * args.c_out + channel) =
        *reinterpret_cast<const Vector*>(staged.at(pixel, group));
  }
}

// kCount channels of the maximum of every 2x2 window to pooled.
template <int kCount, class T, class Staged>
__device__ void pool_elements(const ConvArgs& args, const ConvPlace& place, const Staged& staged,
                              int thread) {
  static_assert(Staged::kRows % 2 == 0 && Staged::kColumns % 2 == 0);
  constexpr int kGroups = Staged::kChannels / kCount, kColumns = Staged::kColumns / 2;
  constexpr int kWindows = Staged::kRows / 2 * kColumns;
  const int ho = args.ho / 2, wo = args.wo / 2;
  for (int i = thread; i < kWindows * kGroups; i += Staged::kThreads) {
    const int window = i / kGroups, group = i % kGroups * kCount, channel = place.channel + group;
    const int y = window / kColumns, x = window % kColumns;
    const int row = place.row / 2 + y, column = place.column / 2 + x;
    if (row >= ho || column >= wo || channel >= args.c_out) continue;
    const int first = 2 * y * Staged::kColumns + 2 * x;
    float best[kCount], next[kCount];
    load_elements(staged.at(first, group), best);
#pragma unroll
    for (const int pixel : {1, Staged::kColumns, Staged::kColumns + 1}) {
      load_elements(staged.at(first + pixel, group), next);
#pragma unroll
      for (int k = 0; k < kCount; ++k) best[k] = conv_larger(best[k], next[k]);
    }
    const std::int64_t index = (std::int64_t{place.image} * ho + row) * wo + column;
    store_elements(best, static_cast<T*>(args.pooled) + index * args.c_out + channel);
  }
}

// The three, 16 bytes at once where the channels are whole ones.
template <class T, class Staged>
__device__ void finish_tile(const ConvArgs& args, const ConvPlace& place, const Staged& staged,
                            int thread) {
  if (args.c_out % kStagedWide<T> == 0) {
    finish_elements<kStagedWide<T>, T>(args, place, staged, thread);
  } else {
    finish_elements<1, T>(args, place, staged, thread);
  }
}
template <class T, class Staged>
__device__ void store_tile(const ConvArgs& args, const ConvPlace& place, const Staged& staged,
                           int thread) {
  if (args.c_out % kStagedWide<T> == 0) {
    store_elements_of<kStagedWide<T>, T>(args, place, staged, thread);
  } else {
    store_elements_of<1, T>(args, place, staged, thread);
  }
}
template <class T, class Staged>
__device__ void pool_tile(const ConvArgs& args, const ConvPlace& place, const Staged& staged,
                          int thread) {
  if (args.c_out % kStagedWide<T> == 0) {
    pool_elements<kStagedWide<T>, T>(args, place, staged, thread);
  } else {
    pool_elements<1, T>(args, place, staged, thread);
  }
}

}  // namespace tessera
