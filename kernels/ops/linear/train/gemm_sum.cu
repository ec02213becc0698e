// A weight's gradient: sum (m, n) += a^T b, reduced over the rows of a (rows, m) and b (rows, n),
// f32 in memory, with pitches; multiplied in exact f32, or rounded to tf32, bf16 or f16 on tensor
// cores. Sums in f32. Rows may be masked by lengths, and b read a step earlier or later in its
// sequence.
//
// A block of 4 warps makes 64 x 64 sums of one slice of the rows. Rows come through registers, 32
// of both operands at a time, into shared memory as they lie (row by row) while the block
// multiplies the 32 before; since the reduction runs over rows, tensor cores read them transposed,
// 16-bit ones by ldmatrix, tf32 element by element. Every 128 rows the sums are added to totals,
// which keeps a long sum's error to that of two short ones. Slices fill the device where m x n is
// small; a second kernel adds them in order.
// Roofline: 2 m n FLOPs per row beside 4 (m + n) bytes; at HAN's 96,000 x 600 x 100 (11.5 GFLOP,
// 270 MB) FMA binds on an H100 in f32 (0.2 ms), memory on tensor cores (0.09 ms). Share of it: not
// measured yet. Oracle: train/reference.cpp.
#include <algorithm>

#include "kernels/ops/linear/cuda.h"
#include "kernels/ops/linear/gemm_sm80_mma.cuh"

namespace tessera {

namespace {

constexpr int kTile = 64;   // rows and columns of a block's sums
constexpr int kDepth = 32;  // rows of the operands in shared memory at a time
constexpr int kThreads = 128;
constexpr int kThreadSums = kTile * kTile / kThreads;
constexpr int kLoads = kDepth * kTile / 4 / kThreads;  // of 4 elements, for one operand
// Elements of a row in shared memory: of 2 bytes, 8 rows' starts lie in different banks, as
// ldmatrix reads them; of 4, those of 4 rows lie 8 banks apart.
constexpr int kPitch = kTile + 8;
constexpr int kBlocks = 3;       // per multiprocessor: at most 170 registers
constexpr int kTotalRows = 128;  // between additions to the totals
static_assert(kTotalRows % kDepth == 0 && kDepth <= kThreads);
static_assert(kDepth * kTile % (4 * kThreads) == 0);

// float stands for exact products.
template <class T>
struct Shared {
  alignas(16) T a[2][kDepth][kPitch], b[2][kDepth][kPitch];
  std::int64_t a_row[2][kDepth], b_row[2][kDepth];  // of memory, or -1: zeros
};

template <class T>
struct Tile {
  static constexpr int kWarpTile = kTile / 2;  // a warp makes one quarter of the sums
  static constexpr int kM = kWarpTile / 16, kN = kWarpTile / 8;
  static constexpr int kStep = 32 / int{sizeof(T)};  // rows of one mma

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp_row() { return static_cast<int>(threadIdx.x) / 64 * kWarpTile; }
  __device__ static int warp_column() { return static_cast<int>(threadIdx.x) / 32 % 2 * kWarpTile; }
  // Of sum i = (m, n, element).
  __device__ static int row(int i) {
    return warp_row() + i / (4 * kN) * 16 + i % 4 / 2 * 8 + lane() / 4;
  }
  __device__ static int column(int i) {
    return warp_column() + i / 4 % kN * 8 + lane() % 4 * 2 + i % 2;
  }

  // The fragment of `step`'s rows and 16 columns of a, transposed.
  __device__ static void load_a(const T (&s_a)[kDepth][kPitch], int step, int at,
                                std::uint32_t (&a)[4]) {
    if constexpr (sizeof(T) == 2) {
      // Matrices: columns 0-7 and 8-15 of the first 8 rows, then of the others.
      ptx::ldmatrix_x4_trans(a, &s_a[step + lane() % 8 + lane() / 16 * 8][at + lane() / 8 % 2 * 8]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a[i] = s_a[step + lane() % 4 + i / 2 * 4][at + lane() / 4 + i % 2 * 8].bits;
    }
  }
  // Those of 2 x 8 columns of b.
  __device__ static void load_b(const T (&s_b)[kDepth][kPitch], int step, int at,
                                std::uint32_t (&b)[4]) {
    if constexpr (sizeof(T) == 2) {
      ptx::ldmatrix_x4_trans(b, &s_b[step + lane() % 16][at + lane() / 16 * 8]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        b[i] = s_b[step + lane() % 4 + i % 2 * 4][at + lane() / 4 + i / 2 * 8].bits;
    }
  }

  __device__ static void multiply(const Shared<T>& shared, int buffer, float (&sums)[kThreadSums]) {
#pragma unroll
    for (int step = 0; step < kDepth; step += kStep) {
      std::uint32_t a[kM][4], b[kN / 2][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) load_a(shared.a[buffer], step, warp_row() + m * 16, a[m]);
#pragma unroll
      for (int n = 0; n < kN / 2; ++n) load_b(shared.b[buffer], step, warp_column() + n * 16, b[n]);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          float(&sum)[4] = reinterpret_cast<float(&)[4]>(sums[(m * kN + n) * 4]);
          const std::uint32_t pair[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
          multiply_add<T>(sum, a[m], pair);
        }
      }
    }
  }
};

// Exact products: a thread makes 8 x 4 sums.
template <>
struct Tile<float> {
  static constexpr int kThreadColumns = 4, kThreadRows = kThreadSums / kThreadColumns;
  static constexpr int kColumnThreads = kTile / kThreadColumns;
  static constexpr int kRowRun = 4;  // neighbours, of one load
  static constexpr int kRowThreads = kThreads / kColumnThreads;

  __device__ static int row(int i) {
    const int at = i / kThreadColumns;
    return at / kRowRun * (kRowThreads * kRowRun) +
           static_cast<int>(threadIdx.x) / kColumnThreads * kRowRun + at % kRowRun;
  }
  __device__ static int column(int i) {
    return static_cast<int>(threadIdx.x) % kColumnThreads * kThreadColumns + i % kThreadColumns;
  }

  __device__ static void multiply(const Shared<float>& shared, int buffer,
                                  float (&sums)[kThreadSums]) {
#pragma unroll 8
    for (int k = 0; k < kDepth; ++k) {
      float a[kThreadRows], b[kThreadColumns];
#pragma unroll
      for (int i = 0; i < kThreadRows; i += kRowRun) {
        float run[kRowRun];
        load_elements(&shared.a[buffer][k][row(i * kThreadColumns)], run);
#pragma unroll
        for (int r = 0; r < kRowRun; ++r) a[i + r] = run[r];
      }
      load_elements(&shared.b[buffer][k][column(0)], b);
#pragma unroll
      for (int i = 0; i < kThreadSums; ++i)
        sums[i] = fmaf(a[i / kThreadColumns], b[i % kThreadColumns], sums[i]);
    }
  }
};

struct Slices {
  std::int64_t count, rows;  // rows of one
};

// Which rows of memory are row `row` of both operands.
__device__ inline void find_rows(const GemmSumArgs& args, std::int64_t row, std::int64_t last,
                                 std::int64_t& a_row, std::int64_t& b_row) {
  a_row = b_row = row < last ? row : -1;
  if (a_row < 0 || (args.lengths == nullptr && args.b_delay == 0)) return;
  const std::int64_t sequence = row / args.t, step = row - sequence * args.t;
  std::int64_t length = args.t;
  if (args.lengths != nullptr) length = min(std::int64_t{args.lengths[sequence]}, args.t);
  if (step >= length) {
    a_row = b_row = -1;
    return;
  }
  const std::int64_t b_step = step - args.b_delay;
  b_row = b_step >= 0 && b_step < length ? row - args.b_delay : -1;
}

// Four neighbours of a row, zeros past `width` and where there is no row. `whole`: rows are aligned
// to 16 bytes.
__device__ inline float4 load_four(const float* matrix, std::int64_t row, std::int64_t pitch,
                                   int column, int width, bool whole) {
  float4 four = make_float4(0, 0, 0, 0);
  if (row < 0 || column >= width) return four;
  const float* from = matrix + row * pitch + column;
  if (whole && column + 3 < width) return *reinterpret_cast<const float4*>(from);
  four.x = from[0];
  if (column + 1 < width) four.y = from[1];
  if (column + 2 < width) four.z = from[2];
  if (column + 3 < width) four.w = from[3];
  return four;
}

template <class T>
__device__ inline void store_four(float4 four, T* to) {
  if constexpr (std::is_same_v<T, float>) {
    *reinterpret_cast<float4*>(to) = four;
  } else {
    store_rounded<T>(four, reinterpret_cast<unsigned char*>(to));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gemm_sum_kernel(GemmSumArgs args, Slices slices) {
  SIMT_SHARED(Shared<T>, s_shared, [1]);
  Shared<T>& shared = s_shared[0];
  const int thread = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int first_column = static_cast<int>(blockIdx.y) * kTile;
  const std::int64_t first = std::int64_t{blockIdx.z} * slices.rows;
  const std::int64_t last = min(first + slices.rows, args.rows);
  const auto aligned = [](const float* matrix, std::int64_t pitch) {
    return pitch % 4 == 0 && reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0;
  };
  const bool whole_a = aligned(args.a, args.a_pitch), whole_b = aligned(args.b, args.b_pitch);

  float4 r_a[kLoads], r_b[kLoads];
  const auto find = [&](std::int64_t from, int buffer) {
    if (thread < kDepth)
      find_rows(args, from + thread, last, shared.a_row[buffer][thread],
                shared.b_row[buffer][thread]);
  };
  const auto load = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int at = thread + i * kThreads, row = at / (kTile / 4), column = at % (kTile / 4) * 4;
      r_a[i] = load_four(args.a, shared.a_row[buffer][row], args.a_pitch, first_row + column,
                         args.m, whole_a);
      r_b[i] = load_four(args.b, shared.b_row[buffer][row], args.b_pitch, first_column + column,
                         args.n, whole_b);
    }
  };
  const auto store = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int at = thread + i * kThreads, row = at / (kTile / 4), column = at % (kTile / 4) * 4;
      store_four(r_a[i], &shared.a[buffer][row][column]);
      store_four(r_b[i], &shared.b[buffer][row][column]);
    }
  };

  float sums[kThreadSums], totals[kThreadSums];
#pragma unroll
  for (int i = 0; i < kThreadSums; ++i) sums[i] = totals[i] = 0;
  find(first, 0);
  find(first + kDepth, 1);
  // Puts the first rows' places before their reads.
  __syncthreads();
  load(0);
  store(0);
  int buffer = 0;
  for (std::int64_t row = first; row < last; row += kDepth) {
    // Puts the stores into this buffer, and the places of the next rows, before the reads below,
    // and the reads of the other buffer, and of this one's places, in the last round before this
    // round's stores.
    __syncthreads();
    const bool more = row + kDepth < last;
    if (more) load(buffer ^ 1);
    find(row + 2 * kDepth, buffer);
    Tile<T>::multiply(shared, buffer, sums);
    if ((row - first) % kTotalRows == kTotalRows - kDepth || !more) {
#pragma unroll
      for (int i = 0; i < kThreadSums; ++i) {
        totals[i] += sums[i];
        sums[i] = 0;
      }
    }
    buffer ^= 1;
    if (more) store(buffer);
  }

  float* slice = static_cast<float*>(args.scratch);
  if (slices.count > 1) slice += std::int64_t{blockIdx.z} * args.m * args.n;
#pragma unroll
  for (int i = 0; i < kThreadSums; ++i) {
    const int m = first_row + Tile<T>::row(i), n = first_column + Tile<T>::column(i);
    if (m >= args.m || n >= args.n) continue;
    if (slices.count > 1) {
      slice[std::int64_t{m} * args.n + n] = totals[i];
    } else {
      args.sum[m * args.sum_pitch + n] += totals[i];
    }
  }
}

constexpr int kAddThreads = 256;

__global__ void __launch_bounds__(kAddThreads)
    add_slices_kernel(GemmSumArgs args, std::int64_t slices) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  const std::int64_t count = std::int64_t{args.m} * args.n;
  if (at >= count) return;
  const float* from = static_cast<const float*>(args.scratch) + at;
  float total = 0;
#pragma unroll 8
  for (std::int64_t slice = 0; slice < slices; ++slice) total += from[slice * count];
  args.sum[at / args.n * args.sum_pitch + at % args.n] += total;
}

// Slices until the blocks fill a large device twice, but none of so few rows that the sums' way
// through memory costs more than they do.
Slices slices_of(std::int64_t rows, int m, int n) {
  constexpr std::int64_t kWantedBlocks = 264, kLeastRows = 256;
  const std::int64_t tiles = std::int64_t{(m + kTile - 1) / kTile} * ((n + kTile - 1) / kTile);
  const auto divide = [](std::int64_t x, std::int64_t by) { return (x + by - 1) / by; };
  const std::int64_t wanted =
      std::max(divide(kWantedBlocks, std::max(tiles, std::int64_t{1})), std::int64_t{1});
  const std::int64_t least = std::max(divide(rows, wanted), kLeastRows);
  const std::int64_t slice = divide(least, kDepth) * kDepth;
  return {divide(rows, slice), slice};
}

template <class T>
void launch(const GemmSumArgs& args, const Slices& slices, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((args.m + kTile - 1) / kTile),
                  static_cast<unsigned>((args.n + kTile - 1) / kTile),
                  static_cast<unsigned>(slices.count));
  simt::launch(gemm_sum_kernel<T>, grid, dim3(kThreads), 0, stream, args, slices);
}

}  // namespace

std::size_t gemm_sum_scratch(std::int64_t rows, int m, int n) {
  const std::int64_t slices = slices_of(rows, m, n).count;
  return slices <= 1 ? 0 : static_cast<std::size_t>(slices * m * n) * sizeof(float);
}

void gemm_sum_cuda(const GemmSumArgs& args, Precision rounding, CudaStream stream) {
  if (args.rows == 0 || args.m == 0 || args.n == 0) return;
  const Slices slices = slices_of(args.rows, args.m, args.n);
  if (rounding == Precision::kFp32) {
    launch<float>(args, slices, stream);
  } else {
    with_rounded(rounding, [&](auto type) { launch<decltype(type)>(args, slices, stream); });
  }
  if (slices.count == 1) return;
  const std::int64_t blocks = (std::int64_t{args.m} * args.n + kAddThreads - 1) / kAddThreads;
  simt::launch(add_slices_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kAddThreads), 0, stream,
               args, slices.count);
}

}  // namespace tessera
