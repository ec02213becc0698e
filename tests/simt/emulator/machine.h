// What a kernel may ask of the emulated machine: the entry points behind emulated.h.
//
// Each entry point takes its own return address for the place in the kernel that called it, so
// wrappers over them must be inlined. Tests include emulator.h instead.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace simt::machine {

// Where the running CUDA thread is: what threadIdx and its kin read.
struct Position {
  uint3 thread;
  uint3 block;
  dim3 block_extent;
  dim3 grid_extent;
};

// The CUDA thread that runs on this OS thread; null outside of kernels. `__thread`, because
// `thread_local` would add a guard to every read of threadIdx.
extern __thread Position* current;

// Shared memory. An array is known by the address of a constant that its declaration defines.
void* dynamic_shared(std::size_t align);
void* static_shared(const void* key, std::size_t bytes, std::size_t align);
std::uint32_t shared_address(const void* p);

// Barriers of a block: `threads` is 0 for all that have not exited.
enum class Predicate { kCount, kAnd, kOr };
void block_barrier(int id, int threads, bool wait);
int block_barrier_reduce(Predicate op, int predicate);
void grid_barrier();

// Clusters: blocks that reach each other's shared memory. map_shared gives the address in block
// `rank` of what lies at `p` in this one.
unsigned cluster_rank();
unsigned cluster_size();
void cluster_arrive();
void cluster_wait();
void* map_shared(const void* p, unsigned rank);

// Operations of a warp.
enum class Shuffle { kIndex, kUp, kDown, kXor };
enum class Vote { kBallot, kAny, kAll };
enum class Reduce { kAdd, kMin, kMax, kAnd, kOr, kXor };
void warp_barrier(unsigned mask);
void shuffle(unsigned mask, Shuffle mode, int argument, int width, void* value, int bytes);
unsigned vote(unsigned mask, Vote kind, int predicate);
unsigned reduce(unsigned mask, Reduce op, bool is_signed, unsigned value);

// Memory accesses that the compiler's instrumentation does not see, and the steps of an atomic one.
void access(const void* p, unsigned bytes, bool write);
void atomic_access(const void* p, unsigned bytes);
void atomic_load(const void* p, void* value, unsigned bytes);
bool atomic_replace(void* p, void* expected, const void* desired, unsigned bytes);
void thread_fence();

// Tensor instructions. mma: m16n8k16, or m16n8k8 for kTF32. wgmma: m64 x `n` x k16.
enum class Operand { kBF16, kF16, kTF32 };
struct WarpgroupMma {
  Operand operand;
  int n;
  std::uint64_t a, b;  // matrix descriptors
  bool accumulate;
  bool transpose_a, transpose_b;
};
void load_matrix(std::uint32_t* registers, int matrices, const void* row, bool transpose);
void store_matrix(const std::uint32_t* registers, int matrices, void* row, bool transpose);
void mma(Operand operand, float* d, const std::uint32_t* a, const std::uint32_t* b, const float* c);
void wgmma(const WarpgroupMma& operation, float* d);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);

// Asynchronous copies: cp.async, mbarriers, TMA.
void copy_async(void* to, const void* from, int bytes, int source_bytes);
void copy_async_commit();
void copy_async_wait(int pending);
void mbarrier_init(std::uint64_t* barrier, int count);
void mbarrier_arrive(std::uint64_t* barrier, int expected_bytes);
// At the barrier that lies at `barrier` in block `rank` of the cluster.
void mbarrier_arrive_at(std::uint64_t* barrier, unsigned rank);
bool mbarrier_test(std::uint64_t* barrier, int parity);
void mbarrier_wait(std::uint64_t* barrier, int parity);
void fence_proxy();
void tensor_load(void* to, const CUtensorMap* map, std::uint64_t* barrier, const int* at,
                 int coordinates, const int* im2col_offsets);
// To the same place in each block of `ranks`, a bit each, whose barrier there counts the bytes.
void tensor_load_multicast(void* to, const CUtensorMap* map, std::uint64_t* barrier, const int* at,
                           int coordinates, unsigned ranks);
void tensor_store(const CUtensorMap* map, const void* from, const int* at, int coordinates);
void tensor_store_commit();
void tensor_store_wait(int pending);

void yield();  // lets the other threads run, as a thread that polls must
void trap(const char* what);

// One launch. `call(arguments)` runs the kernel's body for the current thread; `kernel` names it in
// findings. Not a std::function: what that reads would count as accesses of the kernel.
struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  bool cooperative = false;
  unsigned cluster = 1;  // blocks of one, neighbours along x
  cudaStream_t stream = nullptr;
  const void* kernel = nullptr;
  std::shared_ptr<const void> arguments;
  void (*call)(const void* arguments) = nullptr;
};
// Runs it, or records it where the stream captures.
cudaError_t launch(Launch launch);

}  // namespace simt::machine
