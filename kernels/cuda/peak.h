// Loops that keep one unit of a GPU as busy as it gets: what kernels are held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cuda/stream.h"

namespace tessera {

enum class PeakUnit : std::uint8_t {
  kFma,       // f32 fused multiply-adds
  kMmaTf32,   // mma.sync, tf32
  kMmaBf16,   // mma.sync, bf16; f16 runs at the same rate
  kWgmmaBf16  // wgmma, bf16: compute capability 9.0 alone, whose mma.sync is the slower one
};

// `rounds` of products of `factor` and 1, added up in registers; with kRandomOperands, of numbers
// in [-1, 1) that differ from instruction to instruction and stay the same from round to round.
struct PeakArgs {
  PeakUnit unit;
  int blocks, rounds;
  float factor;
  float* sums;  // (peak_sums(unit, blocks)): each thread's own; together factor times the products
};
inline constexpr float kRandomOperands = std::numeric_limits<float>::quiet_NaN();
// A multiply and an add each.
double peak_products(PeakUnit unit, int blocks, int rounds);
std::int64_t peak_sums(PeakUnit unit, int blocks);
// Blocks that fill a GPU.
int peak_blocks(PeakUnit unit, int multiprocessors);
void peak_loop_cuda(const PeakArgs& args, CudaStream stream);

// a = b + scale c, each of `count` floats, a multiple of 4: three streams of memory.
struct PeakTriadArgs {
  const float* b;
  const float* c;
  float* a;
  std::int64_t count;
  float scale;
};
void peak_triad_cuda(const PeakTriadArgs& args, CudaStream stream);

// What the loops reached.
struct CudaPeaks {
  double f32, tf32, bf16;  // FLOP/s; tf32 by mma.sync, bf16 by the faster of mma.sync and wgmma
  double bandwidth;        // bytes/s of the triad
};
struct CudaTraits;
// Enqueues on `stream`, waits, and takes at most a few percent of `available_bytes` meanwhile.
CudaPeaks measure_cuda_peaks(const CudaTraits& traits, CudaStream stream,
                             std::size_t available_bytes);

}  // namespace tessera
