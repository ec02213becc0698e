// Kernels that are wrong, each in one way, for simt_test.cpp to see how the emulator says so.
#include "kernels/cuda/kernel.h"
#include "tests/simt/kernels.h"

namespace tessera::test {
namespace {

// What all of them may use; `mistake` is a template parameter, so that each has its own place.
template <Mistake mistake>
__global__ void mistake_kernel(float* memory, int size) {
  SIMT_SHARED(float, s, [64]);
  const int t = static_cast<int>(threadIdx.x);
  if constexpr (mistake == Mistake::kNoBarrier) {
    s[t] = 1;
    memory[t] = s[(t + 32) % 64];
  } else if constexpr (mistake == Mistake::kNoWarpBarrier) {
    s[t] = 1;
    memory[t] = s[t ^ 1];
  } else if constexpr (mistake == Mistake::kNoCopyWait) {
    ptx::cp_async<4>(&s[t], memory + t);
    ptx::cp_async_commit();
    memory[t] = s[t];
    ptx::cp_async_wait<0>();
  } else if constexpr (mistake == Mistake::kUninitialisedShared) {
    if (t != 5) s[t] = 1;
    memory[t] = s[t];
  } else if constexpr (mistake == Mistake::kSharedReadOverrun) {
    s[t] = 1;
    memory[t] = s[t + size - 63];
  } else if constexpr (mistake == Mistake::kSharedWriteOverrun) {
    s[t + size - 63] = 1;
  } else if constexpr (mistake == Mistake::kGlobalReadOverrun) {
    s[t] = memory[t + size - 63];
  } else if constexpr (mistake == Mistake::kGlobalWriteOverrun) {
    memory[t + size - 63] = 1;
  } else if constexpr (mistake == Mistake::kGlobalWriteUnderrun) {
    memory[t - 1] = 1;
  } else if constexpr (mistake == Mistake::kDivergentBarrier) {
    if (t % 2 == 0) {
      __syncthreads();
      memory[t] = 1;
    } else {
      memory[t] = static_cast<float>(__syncthreads_or(1));
    }
  } else if constexpr (mistake == Mistake::kDeadlock) {
    if (t < 32) ptx::bar_sync(3, 64);
    memory[t] = 1;
  } else if constexpr (mistake == Mistake::kExitedLane) {
    if (t < 7) return;
    memory[t] = __shfl_xor_sync(~0u, static_cast<float>(t), 1);
  } else if constexpr (mistake == Mistake::kBlocksCollide) {
    memory[0] = static_cast<float>(blockIdx.x);
  } else if constexpr (mistake == Mistake::kMisaligned) {
    memory[t] = ptx::ld(reinterpret_cast<const float4*>(memory + 1)).x;
  } else if constexpr (mistake == Mistake::kHostPointer) {
    memory[t] = 1;
  } else if constexpr (mistake == Mistake::kSpinsOnVariable) {
    while (*reinterpret_cast<volatile float*>(memory) >= 0) {
    }
  } else if constexpr (mistake == Mistake::kPolls) {
    while (atomicAdd(memory, 0.0f) >= 0) {
    }
  } else if constexpr (mistake == Mistake::kTrap) {
    if (t == 9) __trap();
  }
}

__global__ void unfenced_last_block_kernel(float* memory) {
  unsigned* arrived = reinterpret_cast<unsigned*>(memory);
  if (threadIdx.x != 0) return;
  memory[1 + blockIdx.x] = 1;
  if (atomicAdd(arrived, 1u) == gridDim.x - 1)
    for (unsigned i = 0; i < gridDim.x; ++i) memory[0] += memory[1 + i];
}

template <Mistake mistake>
__global__ void tensor_mistake_kernel(const __grid_constant__ CUtensorMap map) {
  SIMT_DYN_SHARED(float, tile, 128);
  SIMT_SHARED(std::uint64_t, barrier, );
  const int t = static_cast<int>(threadIdx.x);
  if constexpr (mistake == Mistake::kNoProxyFence || mistake == Mistake::kNoStoreWait) {
    tile[t] = 1;
    if (mistake != Mistake::kNoProxyFence) ptx::fence_proxy_async();
    __syncthreads();
    if (t == 0) {
      ptx::tma_store(&map, tile, 0, 0);
      ptx::tma_store_commit();
      if (mistake != Mistake::kNoStoreWait) ptx::tma_store_wait<0>();
    }
  } else {
    constexpr int kBytes = 64 * sizeof(float);
    if (t == 0) {
      ptx::mbar_init(&barrier, 1);
      if (mistake != Mistake::kNoMbarrierFence) ptx::fence_mbar_init();
      ptx::mbar_arrive_expect_tx(&barrier,
                                 mistake == Mistake::kMbarrierNeverComplete ? 2 * kBytes : kBytes);
      ptx::tma_load(tile, &map, &barrier, 0, 0);
    }
    __syncthreads();
    ptx::mbar_wait(&barrier, 0);
  }
}

// Clusters of two blocks.
template <Mistake mistake>
__global__ void cluster_mistake_kernel(float* memory) {
  SIMT_SHARED(float, s, [64]);
  const int t = static_cast<int>(threadIdx.x);
  const unsigned rank = ptx::cluster_rank(), other = 1 - rank;
  s[t] = 1;
  if constexpr (mistake == Mistake::kNoSyncBeforeUse) {
    ptx::st(ptx::map_shared(s, other) + t, 2.0f);
    ptx::cluster_sync();
  } else if constexpr (mistake == Mistake::kClusterTwice) {
    ptx::cluster_arrive();
    ptx::cluster_arrive();
  } else if constexpr (mistake == Mistake::kClusterNoArrival) {
    ptx::cluster_wait();
  } else if constexpr (mistake == Mistake::kClusterDeadlock) {
    if (t < 32) ptx::cluster_sync();
    if (t >= 32) ptx::bar_sync(1, 64);
  } else {
    ptx::cluster_sync();
    if constexpr (mistake == Mistake::kExitedBlock) {
      if (rank == 0) return;
      float* const there = ptx::map_shared(s, other);
      for (int i = 0; i < 4; ++i) __nanosleep(100);
      memory[t] = ptx::ld(there + t);
    } else if constexpr (mistake == Mistake::kNoSyncBeforeExit) {
      if (rank == 0) memory[t] = ptx::ld(ptx::map_shared(s, other) + t);
      for (int i = 0; i < 4; ++i) __nanosleep(100);
    } else if constexpr (mistake == Mistake::kClusterRace) {
      if (rank == 0) s[t] = 2;
      if (rank == 1) memory[t] = ptx::ld(ptx::map_shared(s, other) + t);
      ptx::cluster_sync();
    } else if constexpr (mistake == Mistake::kNoSuchBlock) {
      memory[t] = ptx::ld(ptx::map_shared(s, 2) + t);
    }
  }
}

template <Mistake mistake>
__global__ void multicast_mistake_kernel(const __grid_constant__ CUtensorMap map) {
  SIMT_DYN_SHARED(float, tile, 128);
  SIMT_SHARED(std::uint64_t, barrier, );
  constexpr int kBytes = 64 * sizeof(float);
  const int t = static_cast<int>(threadIdx.x);
  const unsigned rank = ptx::cluster_rank();
  tile[t] = 0;
  if (t == 0 && (mistake != Mistake::kMulticastNoBarrier || rank == 0)) {
    ptx::mbar_init(&barrier, 1);
    ptx::fence_mbar_init();
    const bool half = mistake == Mistake::kMulticastOtherBytes && rank == 1;
    if (mistake != Mistake::kLateArrival)
      ptx::mbar_arrive_expect_tx(&barrier, half ? kBytes / 2 : kBytes);
  }
  ptx::cluster_sync();
  if constexpr (mistake == Mistake::kLateArrival) {
    if (t == 0 && rank == 0) ptx::mbar_arrive_at(ptx::barriers_of(&barrier, 1));
    return;
  }
  if (t == 0 && rank == 0) ptx::tma_load_multicast(tile, &map, &barrier, 3, 0, 0);
  if (mistake == Mistake::kMulticastUnderWay && rank == 1) return;
  ptx::mbar_wait(&barrier, 0);
  ptx::cluster_sync();
}

template <Mistake mistake>
void launch_mistake(float* memory, int size) {
  const unsigned blocks = mistake == Mistake::kBlocksCollide ? 2 : 1;
  simt::launch(mistake_kernel<mistake>, blocks, 64, 0, nullptr, memory, size);
}

template <Mistake mistake>
void launch_tensor_mistake(const CUtensorMap& map) {
  simt::launch(tensor_mistake_kernel<mistake>, 1, 64, 64 * sizeof(float), nullptr, map);
}

}  // namespace

void run_mistake(Mistake mistake, float* memory, int size, const CUtensorMap* map) {
  switch (mistake) {
#define TESSERA_CASE(name) \
  case Mistake::name:      \
    return launch_mistake<Mistake::name>(memory, size);
    TESSERA_CASE(kNoBarrier)
    TESSERA_CASE(kNoWarpBarrier)
    TESSERA_CASE(kNoCopyWait)
    TESSERA_CASE(kUninitialisedShared)
    TESSERA_CASE(kSharedReadOverrun)
    TESSERA_CASE(kSharedWriteOverrun)
    TESSERA_CASE(kGlobalReadOverrun)
    TESSERA_CASE(kGlobalWriteOverrun)
    TESSERA_CASE(kGlobalWriteUnderrun)
    TESSERA_CASE(kDivergentBarrier)
    TESSERA_CASE(kDeadlock)
    TESSERA_CASE(kExitedLane)
    TESSERA_CASE(kBlocksCollide)
    TESSERA_CASE(kMisaligned)
    TESSERA_CASE(kHostPointer)
    TESSERA_CASE(kSpinsOnVariable)
    TESSERA_CASE(kPolls)
    TESSERA_CASE(kTrap)
#undef TESSERA_CASE
    case Mistake::kUnfencedLastBlock:
      return simt::launch(unfenced_last_block_kernel, 4, 64, 0, nullptr, memory);
#define TESSERA_CASE(name)                                                                    \
  case Mistake::name:                                                                         \
    return simt::launch_clusters(2, cluster_mistake_kernel<Mistake::name>, 2, 64, 0, nullptr, \
                                 memory);
      TESSERA_CASE(kExitedBlock)
      TESSERA_CASE(kNoSyncBeforeExit)
      TESSERA_CASE(kNoSyncBeforeUse)
      TESSERA_CASE(kClusterRace)
      TESSERA_CASE(kNoSuchBlock)
      TESSERA_CASE(kClusterTwice)
      TESSERA_CASE(kClusterNoArrival)
      TESSERA_CASE(kClusterDeadlock)
#undef TESSERA_CASE
#define TESSERA_CASE(name)                                                          \
  case Mistake::name:                                                               \
    return simt::launch_clusters(2, multicast_mistake_kernel<Mistake::name>, 2, 64, \
                                 64 * sizeof(float), nullptr, *map);
      TESSERA_CASE(kMulticastOtherBytes)
      TESSERA_CASE(kMulticastNoBarrier)
      TESSERA_CASE(kMulticastUnderWay)
      TESSERA_CASE(kLateArrival)
#undef TESSERA_CASE
    case Mistake::kNoProxyFence:
      return launch_tensor_mistake<Mistake::kNoProxyFence>(*map);
    case Mistake::kNoStoreWait:
      return launch_tensor_mistake<Mistake::kNoStoreWait>(*map);
    case Mistake::kNoMbarrierFence:
      return launch_tensor_mistake<Mistake::kNoMbarrierFence>(*map);
    case Mistake::kMbarrierNeverComplete:
      return launch_tensor_mistake<Mistake::kMbarrierNeverComplete>(*map);
  }
}

}  // namespace tessera::test
