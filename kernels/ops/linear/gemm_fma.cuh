// A tile of a matrix product in exact f32: every thread sums rows x columns of it in registers.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/ops/linear/gemm_rows.cuh"

namespace tessera {

template <int kRows_, int kColumns_, int kDepth_>
struct SimtTile {
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kDepth = kDepth_;  // features in shared memory at a time
  static constexpr int kSide = 16;        // threads along rows and along columns
  static constexpr int kThreads = kSide * kSide;
  static constexpr int kThreadRows = kRows / kSide, kThreadColumns = kColumns / kSide;
  // A thread's rows and columns lie in runs of up to 4, one shared load each.
  static constexpr int kRowRun = kThreadRows < 4 ? kThreadRows : 4;
  static constexpr int kColumnRun = kThreadColumns < 4 ? kThreadColumns : 4;
  static constexpr int kXLoads = (kRows * kDepth / 4 + kThreads - 1) / kThreads;
  static constexpr int kWLoads = (kDepth * kColumns / 4 + kThreads - 1) / kThreads;
  static_assert(kRows % kSide == 0 && kColumns % kSide == 0 && kDepth % 4 == 0);

  struct Shared {
    std::int64_t source[kRows];
    // The 4 floats of padding spread the transposing stores over more banks and keep 16 bytes.
    alignas(16) float x[2][kDepth][kRows + 4];
    alignas(16) float w[2][kDepth][kColumns];
  };

  using Sums = float[kThreadRows][kThreadColumns];

  __device__ static int row(int i) {
    return i / kRowRun * (kSide * kRowRun) + static_cast<int>(threadIdx.x) / kSide * kRowRun +
           i % kRowRun;
  }
  __device__ static int column(int j) {
    return j / kColumnRun * (kSide * kColumnRun) +
           static_cast<int>(threadIdx.x) % kSide * kColumnRun + j % kColumnRun;
  }

  // sums[i][j] = x[source[row(i)]] . w[first_column + column(j)]; zero past either's end.
  __device__ static void multiply(const GemmArgs& args, int first_column, Shared& shared,
                                  Sums& sums) {
    const bool whole = rows_are_aligned(args);
    const int pitch = (args.units + 3) / 4 * 4;  // as GemmLayout has it
    float4 r_x[kXLoads], r_w[kWLoads];

    const auto load = [&](int depth) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        if (at < kRows * kDepth / 4)
          r_x[i] = load_features(args, shared.source[at / (kDepth / 4)],
                                 depth + at % (kDepth / 4) * 4, whole);
      }
#pragma unroll
      for (int i = 0; i < kWLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        const int k = depth + at / (kColumns / 4), column = first_column + at % (kColumns / 4) * 4;
        r_w[i] = make_float4(0, 0, 0, 0);
        if (at < kDepth * kColumns / 4 && k < args.features && column < pitch)
          r_w[i] = *reinterpret_cast<const float4*>(static_cast<const float*>(args.w) +
                                                    std::int64_t{k} * pitch + column);
      }
    };
    const auto store = [&](int buffer) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        if (at < kRows * kDepth / 4) {
          const int to = at / (kDepth / 4), k = at % (kDepth / 4) * 4;
          shared.x[buffer][k][to] = r_x[i].x;
          shared.x[buffer][k + 1][to] = r_x[i].y;
          shared.x[buffer][k + 2][to] = r_x[i].z;
          shared.x[buffer][k + 3][to] = r_x[i].w;
        }
      }
#pragma unroll
      for (int i = 0; i < kWLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        if (at < kDepth * kColumns / 4)
          *reinterpret_cast<float4*>(
              &shared.w[buffer][at / (kColumns / 4)][at % (kColumns / 4) * 4]) = r_w[i];
      }
    };

#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = 0;
    }
    load(0);
    store(0);
    int buffer = 0;
    for (int depth = 0; depth < args.features; depth += kDepth) {
      // Puts the stores of this buffer before the reads below, and the reads of the other one in
      // the last round before the stores of this round.
      __syncthreads();
      const bool more = depth + kDepth < args.features;
      if (more) load(depth + kDepth);
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        float a[kThreadRows], b[kThreadColumns];
#pragma unroll
        for (int i = 0; i < kThreadRows; i += kRowRun) {
          float run[kRowRun];
          load_elements(&shared.x[buffer][k][row(i)], run);
#pragma unroll
          for (int r = 0; r < kRowRun; ++r) a[i + r] = run[r];
        }
#pragma unroll
        for (int j = 0; j < kThreadColumns; j += kColumnRun) {
          float run[kColumnRun];
          load_elements(&shared.w[buffer][k][column(j)], run);
#pragma unroll
          for (int r = 0; r < kColumnRun; ++r) b[j + r] = run[r];
        }
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
        }
      }
      buffer ^= 1;
      if (more) store(buffer);
    }
  }
};

// The same columns in both, so that what a kernel sums over a tile's columns does not depend on the
// rows. 8 x 4 sums per thread need 3 shared loads per 32 products; the small tile is deep, since
// its time is the latency of its loads.
using SimtManyRows = SimtTile<128, 64, 16>;
using SimtFewRows = SimtTile<16, 64, 64>;

}  // namespace tessera
