// Launchers of the kernels in features.cu and mistakes.cu.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace tessera::test {

// ---- features.cu

// What each of 32 lanes gets from the warp-wide operations, by result.
enum WarpResult {
  kShuffleIndex,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kShuffleHalves,
  kBallot,
  kAny,
  kAll,
  kReduceAdd,
  kReduceMin,
  kReduceMax,
  kWarpResults,
};
void run_warp_operations(int* results /* (kWarpResults, 32) */);

// Of 64 threads, thread i brings i % 3 == 0.
enum BlockResult { kReversed, kCount, kAnd, kOr, kBlockResults };
void run_block_operations(int* results /* (kBlockResults, 64) */);

// One warp fills a buffer of 32 floats, another takes 2 x it, reversed; `rounds` times.
void run_ping_pong(const float* x, float* y, int rounds);

// `bytes` of each group of 16 are copied by cp.async of 4, 8 and 16 bytes, the others zeroed.
void run_copy_async(const std::uint8_t* x /* (3, 64) */, std::uint8_t* y, int bytes);

// Fragments of the four 8 x 8 matrices of x (32, 8): registers of x4, x2, x1.
void run_load_matrix(const std::uint16_t* x, std::uint32_t* registers /* (7, 32) */,
                     bool transpose);
// The way back, of registers (4, 32).
void run_store_matrix(const std::uint32_t* registers, std::uint16_t* y, bool transpose);

// d (16, 8) = a (16, k) b (k, 8) + 1; k = 16, or 8 for float operands (tf32).
template <class T>
void run_mma(const T* a, const T* b, float* d);

// The shared memory that a TMA load of a box of `bytes` fills, as it lies there.
void run_tensor_load(const CUtensorMap& map, std::uint8_t* y, int bytes, int rank,
                     const int (&at)[5]);
void run_tensor_load_im2col(const CUtensorMap& map, std::uint8_t* y, int bytes, int c, int w, int h,
                            int n, int offset_w, int offset_h);
// A box of floats 0, 1, 2, ... stored at `at`.
void run_tensor_store(const CUtensorMap& map, int elements, int rank, const int (&at)[5]);

// d (64, n) = a (64, 64) times b, through TMA and wgmma. b is (n, 64), or (64, n) and transposed by
// the descriptor; n = 64, 128 or 256, and 64 where b is transposed.
template <class T>
void run_wgmma(const CUtensorMap& a, const CUtensorMap& b, float* d, int n, bool transpose_b);

// y[i] = x of the next block of a cluster, taken from its shared memory; then twice that, sent to
// the block before and added to what it has. `clusters` of `cluster` blocks of 32.
void run_cluster_exchange(const float* x, float* y /* (2, clusters * cluster * 32) */, int clusters,
                          int cluster);
// The shared memory of each block of a cluster, of which each loads a box of `bytes` for all: y is
// (cluster, cluster * bytes), box i is at row i of the map's boxes.
void run_tensor_multicast(const CUtensorMap& map, std::uint8_t* y, int bytes, int box_rows,
                          int cluster);

// y[i] = x of the next block, across the grid's barrier; 8 blocks of 32.
void run_grid_sync(float* x, float* y);
// Counts of x % 64.
void run_histogram(const int* x, unsigned* counts, int size);
// The sum of x (blocks, 64), taken by the block that comes last. `arrived` is 0 before and after.
void run_last_block_sum(const float* x, float* partial, unsigned* arrived, float* sum, int blocks);

// Results for x[i], by function.
enum MathResult { kTF32, kTanh, kExp2, kReciprocal, kFma, kMathResults };
void run_math(const float* x, float* y /* (kMathResults, size) */, int size);

// (n, n) to (n, n); n a multiple of 32. Unpadded, every column of the tile is in one bank.
void run_transpose(const float* x, float* y, int n, bool padded, cudaStream_t stream = nullptr);

// ---- mistakes.cu: each kernel is wrong in the way that is named

enum class Mistake {
  kNoBarrier,            // write, read a neighbour's
  kNoWarpBarrier,        // the same within a warp
  kNoCopyWait,           // cp.async read at once
  kUninitialisedShared,  // read of an element never written
  kSharedReadOverrun,    // one element past a shared array
  kSharedWriteOverrun,
  kGlobalReadOverrun,  // one element past `memory`
  kGlobalWriteOverrun,
  kGlobalWriteUnderrun,    // one element before it
  kDivergentBarrier,       // two __syncthreads() for one warp
  kDeadlock,               // half of the threads wait for a named barrier
  kExitedLane,             // a shuffle that names lanes that have left
  kNoProxyFence,           // a TMA store of what was just written
  kNoStoreWait,            // and one that nothing waits for
  kNoMbarrierFence,        // a TMA load on a barrier whose init nothing made visible
  kMbarrierNeverComplete,  // waits for bytes that nobody copies
  kBlocksCollide,          // all blocks write memory[0]
  kUnfencedLastBlock,      // sums other blocks' results without __threadfence()
  kMisaligned,             // float4 at 4 bytes past a multiple of 16
  kHostPointer,            // `memory` is no device memory
  kSpinsOnVariable,        // for a value that never comes
  kPolls,                  // the same, giving way
  kTrap,
  kExitedBlock,          // reads of a block of the cluster that has gone
  kNoSyncBeforeExit,     // reads of one that may go
  kNoSyncBeforeUse,      // writes into one that may not have begun
  kClusterRace,          // reads what another block writes
  kNoSuchBlock,          // a rank that the cluster has not
  kClusterTwice,         // arrives twice at the cluster's barrier
  kClusterNoArrival,     // waits there only
  kClusterDeadlock,      // half of the threads come there
  kMulticastOtherBytes,  // a TMA copy to two blocks, one of which expects half of it
  kMulticastNoBarrier,   // and one of which has no barrier there
  kMulticastUnderWay,    // and one of which exits before it is there
  kLateArrival,          // arrives at the barrier of a block that may have gone
};
void run_mistake(Mistake mistake, float* memory, int size, const CUtensorMap* map = nullptr);

}  // namespace tessera::test
