// A tile of a matrix product on tensor cores: operands rounded to bf16, f16 or tf32, sums in f32.
//
// A fragment of mma holds 32 bytes of k per row whatever the type, in the same order of bytes: 16
// bf16 or f16, 8 tf32. So one tile, loaded by ldmatrix in pieces of 16 bytes, serves all three.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/ops/linear/gemm_rows.cuh"

namespace tessera {

// An f32 rounded to tf32's 10 bits of fraction.
struct TF32 {
  std::uint32_t bits;
};

template <class T>
__device__ inline void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4],
                                    const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, TF32>) {
    ptx::mma_m16n8k8_tf32(sum, a, b, sum);
  } else {
    ptx::mma_m16n8k16<T>(sum, a, b, sum);
  }
}

__device__ inline std::uint32_t pack_pair(BF16 low, BF16 high) {
  return static_cast<std::uint32_t>(__bfloat16_as_ushort(low)) |
         static_cast<std::uint32_t>(__bfloat16_as_ushort(high)) << 16;
}
__device__ inline std::uint32_t pack_pair(F16 low, F16 high) {
  return static_cast<std::uint32_t>(__half_as_ushort(low)) |
         static_cast<std::uint32_t>(__half_as_ushort(high)) << 16;
}

// Rounds four neighbours and writes them to `to`, aligned to their size.
template <class T>
__device__ inline void store_rounded(float4 x, unsigned char* to) {
  if constexpr (std::is_same_v<T, TF32>) {
    *reinterpret_cast<uint4*>(to) =
        make_uint4(ptx::to_tf32(x.x), ptx::to_tf32(x.y), ptx::to_tf32(x.z), ptx::to_tf32(x.w));
  } else {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_pair(from_float<T>(x.x), from_float<T>(x.y)),
                                               pack_pair(from_float<T>(x.z), from_float<T>(x.w)));
  }
}

template <class T, int kRows_, int kDepthBytes>
struct MmaTile {
  static constexpr int kRows = kRows_, kColumns = 64;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kWarpColumns = kColumns / kWarps;        // a warp takes all rows of them
  static constexpr int kM = kRows / 16, kN = kWarpColumns / 8;  // mma tiles of a warp
  static constexpr int kDepth = kDepthBytes / int{sizeof(T)};   // features at a time
  static constexpr int kPitch = kDepthBytes + 16;  // bytes; no two of 8 rows share banks
  static constexpr int kXLoads = kRows * kDepth / 4 / kThreads;  // of 4 features
  static constexpr int kWLoads = kColumns * kDepthBytes / 16 / kThreads;
  static_assert(kN == 2 && kDepthBytes % 32 == 0 && kPitch % 128 % 32 == 16);
  static_assert(kRows * kDepth / 4 % kThreads == 0 && kColumns * kDepthBytes / 16 % kThreads == 0);

  struct Shared {
    std::int64_t source[kRows];
    alignas(16) unsigned char x[2][kRows][kPitch];
    alignas(16) unsigned char w[2][kColumns][kPitch];
  };

  using Sums = float[kM][kN][4];

  // Row and column of element `e` of sums[m][n].
  __device__ static int row(int m, int e) {
    return m * 16 + e / 2 * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
  }
  __device__ static int column(int n, int e) {
    return static_cast<int>(threadIdx.x) / 32 * kWarpColumns + n * 8 +
           static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
  }

  // sums = x[source[row]] . w[first_column + column]; zero past either's end.
  __device__ static void multiply(const GemmArgs& args, int first_column, Shared& shared,
                                  Sums& sums) {
    const bool whole = rows_are_aligned(args);
    constexpr int kPiece = 16 / int{sizeof(T)};  // elements of 16 bytes
    const int pitch = (args.features + kPiece - 1) / kPiece * kPiece;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    float4 r_x[kXLoads];

    const auto load_x = [&](int depth) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        r_x[i] = load_features(args, shared.source[at / (kDepth / 4)],
                               depth + at % (kDepth / 4) * 4, whole);
      }
    };
    const auto store_x = [&](int buffer) {
#pragma unroll
      for (int i = 0; i < kXLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        store_rounded<T>(
            r_x[i], &shared.x[buffer][at / (kDepth / 4)][at % (kDepth / 4) * 4 * int{sizeof(T)}]);
      }
    };
    const auto copy_w = [&](int depth, int buffer) {
#pragma unroll
      for (int i = 0; i < kWLoads; ++i) {
        const int at = static_cast<int>(threadIdx.x) + i * kThreads;
        const int unit = first_column + at / (kDepthBytes / 16);
        const int k = depth + at % (kDepthBytes / 16) * kPiece;
        const bool there = unit < args.units && k < pitch;
        const T* from =
            static_cast<const T*>(args.w) + (there ? std::int64_t{unit} * pitch + k : 0);
        ptx::cp_async<16>(&shared.w[buffer][at / (kDepthBytes / 16)][at % (kDepthBytes / 16) * 16],
                          from, there ? 16 : 0);
      }
      ptx::cp_async_commit();
    };

#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[m][n][e] = 0;
      }
    }
    copy_w(0, 0);
    load_x(0);
    store_x(0);
    int buffer = 0;
    for (int depth = 0; depth < args.features; depth += kDepth) {
      ptx::cp_async_wait<0>();
      // Puts the stores and copies into this buffer before the reads below, and the reads of the
      // other one in the last round before this round's stores and copies.
      __syncthreads();
      const bool more = depth + kDepth < args.features;
      if (more) {
        copy_w(depth + kDepth, buffer ^ 1);
        load_x(depth + kDepth);
      }
#pragma unroll
      for (int k = 0; k < kDepthBytes; k += 32) {
        // Four matrices of 8 rows x 16 bytes: of w, columns 0-7 and 8-15, each first and second
        // half of k; of x, rows 0-7 and 8-15 in the first half of k, then in the second.
        std::uint32_t w[4];
        ptx::ldmatrix_x4(w, &shared.w[buffer][warp * kWarpColumns + lane / 16 * 8 + lane % 8]
                                     [k + lane / 8 % 2 * 16]);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          std::uint32_t a[4];
          ptx::ldmatrix_x4(a, &shared.x[buffer][m * 16 + lane % 16][k + lane / 16 * 16]);
#pragma unroll
          for (int n = 0; n < kN; ++n) {
            const std::uint32_t b[2] = {w[2 * n], w[2 * n + 1]};
            multiply_add<T>(sums[m][n], a, b);
          }
        }
      }
      buffer ^= 1;
      if (more) store_x(buffer);
    }
  }
};

// The same columns in both, so that what a kernel sums over a tile's columns does not depend on the
// rows. The small tile is deep, since its time is the latency of its loads.
template <class T>
using MmaManyRows = MmaTile<T, 128, 64>;
template <class T>
using MmaFewRows = MmaTile<T, 16, 128>;

// Calls body(T()) with the type that operands are rounded to, which is not kNone; host code.
template <class Body>
void with_rounded(Precision rounding, const Body& body) {
  switch (rounding) {
    case Precision::kTf32:
      return body(TF32());
    case Precision::kBf16:
      return body(BF16());
    default:
      return body(F16());
  }
}

}  // namespace tessera
