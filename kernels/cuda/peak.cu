// What a GPU does at most: one loop per unit that multiplies, and a triad through memory.
//
// A loop's operands never leave registers (wgmma's never leave shared memory), and each warp has
// enough sums in flight to hide the unit's latency. Sums are written at the end, so that no
// compiler drops the loop, and so that tests can count the products: with a factor of 1 every
// product adds 1. What is measured are random operands, and others in each instruction: bits that
// never change draw little power, and a GPU that is not held back by its power clocks higher than
// any kernel will see.
// Roofline: these loops are the roofline. Measured: nothing yet.
#include "kernels/cuda/peak.h"

#include "kernels/cuda/wgmma.cuh"

namespace tessera {

namespace {

// ---- Tiles

constexpr int kWarp = 32;
constexpr int kFmaThreads = 256, kFmaChains = 8;
// 1024 threads a multiprocessor: 8 warps a scheduler cover the latency several times over, and all
// of their operands fit in its registers.
constexpr int kFmaBlocks = 4;
constexpr int kMmaThreads = 256, kMmaTiles = 8;  // sums of 16 x 8 a warp
constexpr int kMmaOperands = 4;                  // of each side, taken in turn
constexpr int kMmaBlocks = 3;                    // a multiprocessor
constexpr int kMmaRows = 16, kMmaColumns = 8;
// 64 x 256 sums a warpgroup: the shape that asks shared memory for least, 62% of its rate.
constexpr int kWgmmaColumns = 256, kWgmmaDepth = 64;
constexpr int kWgmmaBlocks = 2;  // one computes while the other starts its next group
constexpr int kDepthOf16Bits = 16, kDepthOfTf32 = 8;
constexpr int kRowBytes = kWgmmaDepth * 2;
static_assert(kRowBytes == kSwizzleLine, "a row of a tile is one row of the 128-byte swizzle");

constexpr int kTriadThreads = 256, kTriadVectors = 4;  // of 16 bytes, all loads before the stores

// ---- Device helpers

// What operands are made of: `constant`, or, if that is NaN, numbers in [-1, 1) by their place.
__device__ float operand(float constant, std::uint32_t place) {
  if (constant == constant) return constant;
  std::uint32_t bits = place * 0x9e3779b1u + 0x7f4a7c15u;
  bits = (bits ^ bits >> 16) * 0x85ebca6bu;
  bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
  return static_cast<float>(static_cast<int>(bits ^ bits >> 16)) * 0x1p-31f;
}

__device__ std::uint32_t bf16_bits(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
// Two bf16.
__device__ std::uint32_t pair_of(float constant, std::uint32_t place) {
  return bf16_bits(operand(constant, 2 * place)) | bf16_bits(operand(constant, 2 * place + 1))
                                                       << 16;
}

// The factor of the other side: 1, or random as well.
__device__ float one_or_random(float factor) {
  return factor == factor ? 1.0f : factor;
}

// ---- Kernels

__global__ void __launch_bounds__(kFmaThreads)
    peak_fma_kernel(int rounds, float factor, float* sums) {
  float r_sum[kFmaChains] = {}, r_a[kFmaChains], r_b[kFmaChains];
#pragma unroll
  for (int i = 0; i < kFmaChains; ++i) {
    r_a[i] = operand(factor, threadIdx.x * kFmaChains + i);
    r_b[i] = operand(one_or_random(factor), (kFmaThreads + threadIdx.x) * kFmaChains + i);
  }
#pragma unroll 16
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kFmaChains; ++i) r_sum[i] = __fmaf_rn(r_a[i], r_b[i], r_sum[i]);
  }
  float total = 0;
#pragma unroll
  for (const float sum : r_sum) total += sum;
  sums[blockIdx.x * kFmaThreads + threadIdx.x] = total;
}

template <bool kTf32>
__global__ void __launch_bounds__(kMmaThreads)
    peak_mma_kernel(int rounds, float factor, float* sums) {
  const auto word = [&](float constant, std::uint32_t place) {
    place = place * kMmaThreads + threadIdx.x;
    return kTf32 ? ptx::to_tf32(operand(constant, place)) : pair_of(constant, place);
  };
  std::uint32_t r_a[kMmaOperands][4], r_b[kMmaOperands][2];
#pragma unroll
  for (int i = 0; i < kMmaOperands; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) r_a[i][k] = word(factor, 6 * i + k);
#pragma unroll
    for (int k = 0; k < 2; ++k) r_b[i][k] = word(one_or_random(factor), 6 * i + 4 + k);
  }
  float r_sum[kMmaTiles][4] = {};
#pragma unroll 4
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kMmaTiles; ++i) {
      if constexpr (kTf32) {
        ptx::mma_m16n8k8_tf32(r_sum[i], r_a[i % kMmaOperands], r_b[i % kMmaOperands], r_sum[i]);
      } else {
        ptx::mma_m16n8k16<__nv_bfloat16>(r_sum[i], r_a[i % kMmaOperands], r_b[i % kMmaOperands],
                                         r_sum[i]);
      }
    }
  }
  float total = 0;
#pragma unroll
  for (const float(&sum)[4] : r_sum) total += sum[0] + sum[1] + sum[2] + sum[3];
  sums[blockIdx.x * kMmaThreads + threadIdx.x] = total;
}

__global__ void __launch_bounds__(kWarpgroup)
    peak_wgmma_kernel(int rounds, float factor, float* sums) {
  SIMT_DYN_SHARED(std::uint32_t, s_tiles, 1024);
  constexpr int kWordsOfRow = kRowBytes / 4;
  constexpr int kWordsOfA = kWgmmaRows * kWordsOfRow;
  constexpr int kWords = kWordsOfA + kWgmmaColumns * kWordsOfRow;
  // One value, or values of no order: the swizzle moves nothing that matters.
  for (int i = static_cast<int>(threadIdx.x); i < kWords; i += kWarpgroup)
    s_tiles[i] = pair_of(i < kWordsOfA ? factor : one_or_random(factor), i);
  // The stores above become visible to wgmma before any warp issues one.
  ptx::fence_proxy_async();
  __syncthreads();

  constexpr std::uint64_t kStep = kDepthOf16Bits * 2 / 16;  // along a row, in units of 16 bytes
  const std::uint64_t a = wgmma_descriptor(s_tiles), b = wgmma_descriptor(s_tiles + kWordsOfA);
  float r_sum[kWgmmaColumns / 2] = {};
  for (int round = 0; round < rounds; ++round) {
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kWgmmaDepth / kDepthOf16Bits; ++k)
      ptx::wgmma_bf16(r_sum, a + k * kStep, b + k * kStep, 1);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
  }
  ptx::wgmma_wait<0>();
  float total = 0;
#pragma unroll
  for (const float sum : r_sum) total += sum;
  sums[blockIdx.x * kWarpgroup + threadIdx.x] = total;
}

__global__ void __launch_bounds__(kTriadThreads)
    peak_triad_kernel(const float4* __restrict__ b, const float4* __restrict__ c, float4* a,
                      std::int64_t vectors, float scale) {
  const std::int64_t first =
      std::int64_t{blockIdx.x} * (kTriadThreads * kTriadVectors) + threadIdx.x;
  float4 r_b[kTriadVectors], r_c[kTriadVectors];
#pragma unroll
  for (int i = 0; i < kTriadVectors; ++i) {
    if (first + i * kTriadThreads >= vectors) continue;
    r_b[i] = b[first + i * kTriadThreads];
    r_c[i] = c[first + i * kTriadThreads];
  }
#pragma unroll
  for (int i = 0; i < kTriadVectors; ++i) {
    if (first + i * kTriadThreads >= vectors) continue;
    a[first + i * kTriadThreads] =
        make_float4(r_b[i].x + scale * r_c[i].x, r_b[i].y + scale * r_c[i].y,
                    r_b[i].z + scale * r_c[i].z, r_b[i].w + scale * r_c[i].w);
  }
}

// ---- Counts, host code

struct Loop {
  int threads, blocks_of_multiprocessor;
  double products;  // of a block and round
};

Loop loop_of(PeakUnit unit) {
  constexpr double kMmaSums = kMmaThreads / kWarp * kMmaTiles * kMmaRows * kMmaColumns;
  switch (unit) {
    case PeakUnit::kFma:
      return {kFmaThreads, kFmaBlocks, kFmaThreads * kFmaChains};
    case PeakUnit::kMmaTf32:
      return {kMmaThreads, kMmaBlocks, kMmaSums * kDepthOfTf32};
    case PeakUnit::kMmaBf16:
      return {kMmaThreads, kMmaBlocks, kMmaSums * kDepthOf16Bits};
    default:
      return {kWarpgroup, kWgmmaBlocks, double{kWgmmaRows} * kWgmmaColumns * kWgmmaDepth};
  }
}

}  // namespace

double peak_products(PeakUnit unit, int blocks, int rounds) {
  return loop_of(unit).products * blocks * rounds;
}

std::int64_t peak_sums(PeakUnit unit, int blocks) {
  return std::int64_t{loop_of(unit).threads} * blocks;
}

int peak_blocks(PeakUnit unit, int multiprocessors) {
  return loop_of(unit).blocks_of_multiprocessor * multiprocessors;
}

void peak_loop_cuda(const PeakArgs& args, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>(args.blocks));
  const dim3 block(static_cast<unsigned>(loop_of(args.unit).threads));
  constexpr std::size_t kTiles = (kWgmmaRows + kWgmmaColumns) * kRowBytes;
  switch (args.unit) {
    case PeakUnit::kFma:
      return simt::launch(peak_fma_kernel, grid, block, 0, stream, args.rounds, args.factor,
                          args.sums);
    case PeakUnit::kMmaTf32:
      return simt::launch(peak_mma_kernel<true>, grid, block, 0, stream, args.rounds, args.factor,
                          args.sums);
    case PeakUnit::kMmaBf16:
      return simt::launch(peak_mma_kernel<false>, grid, block, 0, stream, args.rounds, args.factor,
                          args.sums);
    case PeakUnit::kWgmmaBf16:
      return simt::launch(peak_wgmma_kernel, grid, block, kTiles, stream, args.rounds, args.factor,
                          args.sums);
  }
}

void peak_triad_cuda(const PeakTriadArgs& args, CudaStream stream) {
  constexpr std::int64_t kOfBlock = kTriadThreads * kTriadVectors;
  const std::int64_t vectors = args.count / 4;
  simt::launch(peak_triad_kernel, dim3(static_cast<unsigned>((vectors + kOfBlock - 1) / kOfBlock)),
               dim3(kTriadThreads), 0, stream, reinterpret_cast<const float4*>(args.b),
               reinterpret_cast<const float4*>(args.c), reinterpret_cast<float4*>(args.a), vectors,
               args.scale);
}

}  // namespace tessera
