// An order of sequences by falling length, so that blocks of the recurrence take equals.
//
// A thread per sequence counts those of its group of 1,024 that come before it: longer ones, and
// earlier ones as long. No atomics, so the order is always the same. 4 KB and 1,024 comparisons a
// thread: a few microseconds, of latency. Share of a roofline: not measured yet. Oracle: none, the
// order changes no byte of the recurrence (tests/cuda/rnn_test.cpp).
#include "kernels/cuda/kernel.h"
#include "kernels/ops/rnn/cuda.h"

namespace tessera {

namespace {

constexpr int kOrderThreads = 256, kOrderGroup = 1024;

__global__ void __launch_bounds__(kOrderThreads)
    rnn_order_kernel(const std::int32_t* __restrict__ lengths, std::int64_t sequences,
                     std::int32_t* __restrict__ order) {
  SIMT_SHARED(std::int32_t, s_length, [kOrderGroup]);
  constexpr int kBlocks = kOrderGroup / kOrderThreads;  // of a group
  const std::int64_t first = blockIdx.x / kBlocks * std::int64_t{kOrderGroup};
  const int count =
      sequences - first < kOrderGroup ? static_cast<int>(sequences - first) : kOrderGroup;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kOrderThreads)
    s_length[i] = lengths[first + i];
  // Puts the writes of s_length before its reads.
  __syncthreads();
  const int own = static_cast<int>(blockIdx.x % kBlocks * kOrderThreads + threadIdx.x);
  if (own >= count) return;
  int rank = 0;
  for (int i = 0; i < count; ++i)
    rank += s_length[i] > s_length[own] || (s_length[i] == s_length[own] && i < own) ? 1 : 0;
  order[first + rank] = static_cast<std::int32_t>(first + own);
}

}  // namespace

void rnn_order_cuda(const std::int32_t* lengths, std::int64_t sequences, std::int32_t* order,
                    CudaStream stream) {
  const std::int64_t groups = (sequences + kOrderGroup - 1) / kOrderGroup;
  simt::launch(rnn_order_kernel, dim3(static_cast<unsigned>(groups * kOrderGroup / kOrderThreads)),
               dim3(kOrderThreads), 0, stream, lengths, sequences, order);
}

}  // namespace tessera
