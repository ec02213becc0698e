// The emulated machine's state: threads in warps in blocks, and the worker that runs them.
//
// A worker is an OS thread with a ring of runnable fibers. It runs one cluster of blocks after
// another (mostly a cluster is one block), or all at once where the launch is cooperative.
// Everything here is touched by its worker alone.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulator/cells.h"
#include "emulator/emulator.h"
#include "emulator/fiber.h"
#include "emulator/machine.h"
#include "emulator/sanitizer.h"
#include "emulator/tensor_map.h"

namespace simt::machine {

inline constexpr int kWarp = 32;
inline constexpr int kWarpgroup = 128;
inline constexpr int kNamedBarriers = 16;

// A fiber's stack; sanitized frames are larger.
inline constexpr std::size_t kStackBytes = SIMT_ASAN ? 256 * 1024 : 64 * 1024;

// A block's shared memory: addresses [0, kArena), and as much again of invalid ones that a small
// overrun lands in.
inline constexpr std::uint32_t kArena = 256 * 1024;
inline constexpr std::uint32_t kArenaGuard = 64 * 1024;

// Vector clocks (check build): for each block of a cluster one entry per thread, then one per
// asynchronous agent. TMA copies count as agents by their mbarrier, wgmmas by their warpgroup.
using Clock = std::vector<std::uint32_t>;
using SharedClock = std::shared_ptr<const Clock>;
inline constexpr int kMbarrierAgents = 16;
inline constexpr int kAgents = kMbarrierAgents + 8;

struct Thread;
struct Block;
struct Cluster;

// Who touched some bytes last.
struct Toucher {
  std::uint32_t clock = 0;   // 0: nobody
  std::uint32_t pc = 0;      // compact()
  std::uint16_t thread = 0;  // or agent: where its entry in the clocks is
};

// Shadow of a few bytes of shared memory.
struct SharedCell {
  Toucher writer;
  Toucher readers[2];
  bool valid, written, atomic;  // belongs to an array; was written; the last write was atomic
  bool pending;                 // an asynchronous copy into it is under way
  bool async_written;           // by TMA
  std::uint8_t async_readers;   // wgmmas and TMA stores under way
};

struct CopyAsync {
  std::byte* to;
  const std::byte* from;
  int bytes, source_bytes;
  int group;
  bool moved;
  const void* pc;
};

struct TensorCopy {
  TensorMap map;
  std::array<int, kMaxTensorRank> at;
  std::array<int, kMaxTensorRank> offsets;  // im2col
  std::byte* shared;
  std::uint64_t* barrier;  // loads
  Thread* thread;
  Block* block;  // whose shared memory it is
  int group;     // stores
  bool moved;
  const void* pc;
};

// One memory access, kept for the profile until its warp converges.
struct Request {
  const void* pc;
  std::uint64_t address;
  std::uint32_t interval;  // convergences of the warp before it
  std::uint16_t bytes;
  bool shared;
};

struct Warp;

struct Thread : Position {
  Fiber fiber;
  Block* block_state = nullptr;
  Warp* warp = nullptr;
  int index = 0;  // in the block
  int entry = 0;  // in the clocks
  int lane = 0;
  bool exited = false;

  const char* waits_for = nullptr;  // and where, while it is parked
  int waits_for_id = -1;
  const void* pc = nullptr;
  std::array<std::uint32_t, kNamedBarriers> barrier_phase{};
  bool cluster_arrived = false;     // at the cluster's barrier, and has not waited yet,
  std::uint32_t cluster_phase = 0;  // in this phase of it

  std::vector<CopyAsync> copies;
  int copy_group = 0;
  std::vector<TensorCopy> stores;
  int store_group = 0;
  unsigned wgmmas_issued = 0;
  bool wgmma_fenced = false;
  std::vector<unsigned> wgmma_groups;  // wgmmas_issued at each commit

  SharedClock seen;                         // what happened before this thread's next step,
  std::uint32_t clock = 1;                  // and its own entry of that
  std::vector<std::uint32_t> proxy_fences;  // own clock at each
  SharedClock seen_at_proxy_fence;
  bool fenced = false;  // __threadfence() since the last release to other blocks
  std::vector<Request> requests;
  std::uint32_t interval = 0;
};

// A warp-wide operation that lanes of `mask` have begun.
struct Collective {
  unsigned mask = 0, arrived = 0;
  int kind = 0;
  std::array<void*, kWarp> argument{};
};

struct Warp {
  std::array<Thread*, kWarp> lanes{};
  unsigned existing = 0, alive = 0;
  std::vector<Collective> pending;
};

struct Barrier {
  int threads = 0;  // as the arrivals say; 0: all of the block that have not exited
  int arrived = 0;
  std::uint32_t phase = 0;
  std::array<const void*, kWarp> warp_pc{};  // where each warp arrived
  std::vector<Thread*> waiting;
  Clock gathered;
  const Clock* gathered_last = nullptr;
  int count = 0;  // of true predicates
  bool all = true, any = false;
  std::array<int, 3> result{};  // of the last phase, by Predicate
};

// What the 64 bits of an mbarrier do not hold.
struct Mbarrier {
  std::uint32_t address = 0;
  Clock gathered;
  SharedClock released;  // by the last phase that ended
  std::vector<Thread*> waiting;
  int agent = 0;
  int init_entry = 0;
  std::uint32_t init_clock = 0;
  const void* init_pc = nullptr;
};

struct Wgmma {
  WarpgroupMma operation;
  int posts = 0;  // threads that issued it
  std::array<float*, kWarpgroup> accumulators{};
  bool ran = false;
  const void* pc = nullptr;
};

struct Warpgroup {
  std::deque<Wgmma> operations;  // that nobody has waited for
  unsigned first = 0;            // how many there were before them
  std::vector<Thread*> waiting;
};

struct SharedArray {
  const void* key;
  std::uint32_t offset, bytes;
};

struct Block {
  Position position{};
  std::uint32_t index = 0;  // in the grid
  Cluster* cluster = nullptr;
  int rank = 0;  // in the cluster
  int threads = 0, alive = 0;
  Thread* first = nullptr;  // of its threads

  std::byte* arena = nullptr;
  std::uint32_t dynamic_bytes = 0, static_top = kArena;
  std::vector<SharedArray> arrays;  // in use; dynamic memory has no key
  Cells<SharedCell> shadow;

  std::array<Barrier, kNamedBarriers> barriers;
  std::vector<std::unique_ptr<Mbarrier>> mbarriers;
  std::vector<Warpgroup> warpgroups;
  std::vector<Warp> warps;
  std::array<std::uint32_t, kAgents> agent_clock{};
  // Of a cluster of several: the last access by each thread of another block, by entry in the
  // clocks, and what happened before the threads that have exited did so.
  std::vector<Toucher> visits;
  Clock before_exit;

  std::size_t arena_offset(const void* p) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(p) - arena);
  }
  bool holds(const void* p) const { return arena_offset(p) < kArena + kArenaGuard; }
  int first_entry() const { return rank * (threads + kAgents); }
};

// Blocks that run together, and may use each other's shared memory.
struct Cluster {
  std::vector<Block*> blocks;  // by rank

  // Its barrier, at which arriving and waiting are two steps.
  int arrived = 0;
  std::uint32_t phase = 0;
  std::vector<Thread*> waiting;
  Clock gathered;
  SharedClock released;  // by the last phase that ended

  int alive() const {
    int threads = 0;
    for (const Block* block : blocks) threads += block->alive;
    return threads;
  }
  // The block of which `p` is shared memory; null where it is of none.
  Block* holder_of(const void* p) const {
    for (Block* block : blocks)
      if (block->holds(p)) return block;
    return nullptr;
  }
  // Whose an entry of the clocks is, and which of its threads (or behind them, agents).
  Block& block_of(int entry) const {
    return *blocks[static_cast<std::size_t>(entry / (blocks[0]->threads + kAgents))];
  }
  int index_of(int entry) const { return entry % (blocks[0]->threads + kAgents); }
  Thread& thread_of(int entry) const;
};

// A launch as its workers share it.
struct Grid : Launch {
  std::uint32_t blocks = 0;
  std::atomic<std::uint32_t> next{0};  // block
  std::atomic<bool> stop{false};
  std::uint32_t id = 0;  // new at each grid barrier, too
};

// Why a thread was stopped from a signal handler.
struct Fault {
  enum Kind { kNone, kAddress, kHang } kind = kNone;
  const void* pc = nullptr;
  const void* address = nullptr;
};

struct Worker {
  Grid* launch = nullptr;
  Fiber launcher;
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Cluster> clusters;
  std::byte* stacks = nullptr;
  std::size_t stack_count = 0;

  std::vector<Thread*> ring;  // runnable; its size is a power of two
  std::size_t head = 0, runnable = 0;
  int live = 0;  // threads that have not exited
  bool dead = false;
  Fault fault;
  std::uint64_t random_state = 1;
  std::uint64_t polls = 0;                 // since something last moved on
  unsigned accesses = 0;                   // since the last switch
  std::atomic<std::uint64_t> switches{0};  // and other signs of life, for the watchdog
  std::atomic<int> uninterrupted{0};       // depth of Uninterrupted
  std::vector<TensorCopy> loads;           // TMA loads under way
  Barrier grid_barrier;
  std::uint64_t barriers = 0, mma = 0;  // done in this launch

  Worker() = default;
  ~Worker();
  std::uint32_t random();
  void push_back(Thread* t) { ring[(head + runnable++) & (ring.size() - 1)] = t; }
  void push_front(Thread* t) {
    head = (head - 1) & (ring.size() - 1);
    ring[head] = t;
    ++runnable;
  }
};

extern thread_local constinit Worker* worker;

// While one lives, the watchdog leaves the worker alone: it may hold a lock, or wait for a process.
class Uninterrupted {
 public:
  Uninterrupted() : worker_(worker) {
    if (worker_ != nullptr) ++worker_->uninterrupted;
  }
  ~Uninterrupted() {
    if (worker_ == nullptr) return;
    ++worker_->switches;
    --worker_->uninterrupted;
  }
  Uninterrupted(const Uninterrupted&) = delete;
  Uninterrupted& operator=(const Uninterrupted&) = delete;

 private:
  Worker* worker_;
};

inline Thread* running() {
  return static_cast<Thread*>(current);
}
inline Thread& Cluster::thread_of(int entry) const {
  return block_of(entry).first[index_of(entry)];
}
// "thread 3", and of which block where a cluster has several.
std::string name_of(const Thread& t);

// ---- scheduler.cpp

// Runs other threads until something pushes this one back.
void park(const char* waits_for, int id, const void* pc);
// Ends the launch: the running thread, and all others, go no further.
[[noreturn]] void stop_launch();
// What waits for `barrier` goes on.
void complete(Barrier& barrier);

// ---- shadow.cpp. Without SIMT_CHECK these do nothing.

enum class Touch {
  kRead,
  kWrite,
  kAtomic,
  kCopyBegin,       // cp.async or TMA will write
  kCopyEnd,         // cp.async, which its thread has waited for
  kTensorEnd,       // TMA
  kAsyncReadBegin,  // wgmma or TMA will read
  kAsyncReadEnd,
};
void touch(const void* p, unsigned bytes, Touch touch, const void* pc);
// The same, of the shared memory of a block of its cluster alone and on behalf of thread `t`; `as`
// is the agent that does it.
void touch_shared(Thread* t, const std::byte* p, unsigned bytes, Touch touch, const void* pc,
                  Toucher as = {});
void make_valid(Block& block, std::uint32_t offset, std::uint32_t bytes);
bool happened_before(const Thread& t, const Toucher& toucher);
// `t` puts what it has done into `gathered`; `last` remembers the clock merged last, as the threads
// of a block mostly share one.
void release(Clock& gathered, Thread& t, const Clock** last = nullptr);
void acquire(Thread& t, const SharedClock& released);
// Block-wide ordering through atomics in global memory, for this launch.
void reset_block_order();
// What the blocks of a cluster have done before its barrier is ordered before what follows it.
void order_blocks(const Cluster& cluster);
// Stops the launch where `other` has exited, or where nothing says that it has begun.
void require_running(const Block& other, const Thread& t, const void* pc);
// The same, and remembers that `t` has used shared memory of it.
void visit(Block& other, const Thread& t, const void* pc);
// Reports accesses by other blocks that nothing orders before the exit of this one.
void check_visits(const Block& block);

// ---- collectives.cpp, async.cpp, tensor.cpp, profile.cpp

void thread_exits(Thread& t);        // leaves barriers and warp-wide operations
void async_thread_exits(Thread& t);  // leaves no copy behind
void async_block_exits(Block& b);    // nor a copy into it, or bytes that its barriers wait for
void run_some_load();                // one of Worker::loads
void run_profile(Warp& warp);        // counts its requests so far
void finish_profile(const Grid& grid, std::uint64_t barriers, std::uint64_t mma);

// Reports a use of sm_90's instructions on a device that has none.
void require_sm90(const char* what, const void* pc);
// As yield(), for a thread that polls at `pc`.
void yield_at(const void* pc);

}  // namespace simt::machine

// The place in the kernel that called the entry point of machine.h that this stands in.
#define SIMT_CALLER __builtin_return_address(0)
#define SIMT_ENTRY __attribute__((noinline))
