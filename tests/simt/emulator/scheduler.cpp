// Runs launches: fibers of a block in turn, clusters one after another, workers side by side.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string_view>
#include <thread>

#include "emulator/emulator.h"
#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/memory.h"
#include "emulator/runtime.h"
#include "emulator/state.h"
#include "kernels/cuda/clock.h"

namespace simt {

const bool kChecked = SIMT_CHECK != 0;
const bool kSanitized = SIMT_ASAN != 0;

Config& config() {
  static Config instance = [] {
    const auto variable = [](const char* name) -> std::string_view {
      const char* value = std::getenv(name);
      return value != nullptr ? value : "";
    };
    const auto number = [&](const char* name, int otherwise) {
      return variable(name).empty() ? otherwise : std::atoi(variable(name).data());
    };
    Config c;
    c.seed = static_cast<unsigned>(number("SIMT_SEED", 0));
    const auto time_of = [&](const char* name) {
      const std::string_view text = variable(name);
      return text == "early" ? Async::kEarly : text == "random" ? Async::kRandom : Async::kLate;
    };
    c.async = time_of("SIMT_ASYNC");
    c.streams = time_of("SIMT_STREAMS");
    c.workers = number("SIMT_WORKERS", 1);
    c.profile = number("SIMT_PROFILE", 0) != 0;
    return c;
  }();
  return instance;
}

namespace machine {

__thread Position* current = nullptr;
thread_local constinit Worker* worker = nullptr;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kGuardedStacks = 8192;  // each guard is a mapping; a process has 65530
constexpr std::uint64_t kMaxPolls = std::uint64_t{1} << 25;
constexpr int kMaxBlockThreads = 1024;
constexpr std::uint32_t kMaxGridYz = 65535;
constexpr unsigned kMaxCluster = 8;  // that every device of sm_90 takes

// ---- Switching

void switch_to(Thread* from, Thread* to) {  // null: the launcher
  current = to;
  worker->accesses = 0;
  worker->switches.store(worker->switches.load(std::memory_order_relaxed) + 1,
                         std::memory_order_relaxed);
  switch_fiber(from != nullptr ? from->fiber : worker->launcher,
               to != nullptr ? to->fiber : worker->launcher,
               from != nullptr && (from->exited || worker->dead));
}

// The next thread to run; null where none can.
Thread* next_thread() {
  Worker& w = *worker;
  for (;;) {
    if (config().async == Async::kRandom && !w.loads.empty() && w.random() % 8 == 0)
      run_some_load();
    if (w.runnable != 0) {
      const std::size_t mask = w.ring.size() - 1;
      if (config().seed != 0)
        std::swap(w.ring[w.head], w.ring[(w.head + w.random() % w.runnable) & mask]);
      Thread* t = w.ring[w.head];
      w.head = (w.head + 1) & mask;
      --w.runnable;
      return t;
    }
    if (w.loads.empty()) return nullptr;
    run_some_load();
  }
}

// "0-31 64 96-127", of ascending numbers; at most four runs.
std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  int runs = 0;
  for (std::size_t i = 0; i < numbers.size(); ++runs) {
    if (runs == 4) return text + " ...";
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += i == last ? fmt::format(" {}", numbers[i])
                      : fmt::format(" {}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

void report_deadlock() {
  std::map<std::string, std::vector<int>> waiting;
  for (const Thread& t : worker->threads)
    if (!t.exited) {
      const std::string id = t.waits_for_id >= 0 ? fmt::format(" {}", t.waits_for_id) : "";
      waiting[fmt::format("{}{} at {}", t.waits_for, id, line_of(t.pc))].push_back(t.index);
    }
  std::string text =
      fmt::format("DEADLOCK: {} of {} threads have exited;",
                  static_cast<int>(worker->threads.size()) - worker->live, worker->threads.size());
  for (const auto& [place, threads] : waiting)
    text += fmt::format(" {} wait for {} (threads{});", threads.size(), place, ranges(threads));
  report(text, text);
}

void run_thread() {
  fiber_entered(worker->launcher);
  worker->launch->call(worker->launch->arguments.get());
  Thread& t = *running();
  async_thread_exits(t);
  t.exited = true;
  --worker->live;
  worker->polls = 0;
  thread_exits(t);
  Thread* next = next_thread();
  if (next == nullptr && worker->live != 0) {
    report_deadlock();
    worker->dead = true;
  }
  switch_to(&t, next);
  std::abort();  // nothing switches to a thread that has exited
}

// ---- Threads that must be stopped from outside

// A signal handler leaves for the launcher, which reports; what was interrupted is a kernel, or a
// copy for one, so that no lock is held.
void leave(Fault::Kind kind, const void* address, void* context) {
  const void* pc = nullptr;
#if defined(__x86_64__)
  pc = reinterpret_cast<const void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] +
                                     1);
#else
  static_cast<void>(context);
#endif
  worker->fault = {kind, pc, address};
  stop_launch();
}

void on_segv(int signal_number, siginfo_t* info, void* context) {
  if (worker != nullptr && running() != nullptr) leave(Fault::kAddress, info->si_addr, context);
  signal(signal_number, SIG_DFL);  // the host's own: comes again, and ends the process
}

void on_hang(int, siginfo_t*, void* context) {
  if (worker != nullptr && running() != nullptr && worker->uninterrupted == 0)
    leave(Fault::kHang, nullptr, context);
}

constexpr int kHangSignal = SIGURG;  // ignored where nobody handles it

void install_handlers() {
  static const bool once = [] {
    struct sigaction action = {};
    // A handler returns to those alone that must not be interrupted (Uninterrupted): their reads
    // go on.
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    action.sa_sigaction = on_hang;
    sigaction(kHangSignal, &action, nullptr);
    if (!SIMT_ASAN) {
      action.sa_flags |= SA_ONSTACK;  // the fault may be an overrun of the fiber's stack
      action.sa_sigaction = on_segv;
      sigaction(SIGSEGV, &action, nullptr);
    }
    return true;
  }();
  static_cast<void>(once);
  static thread_local std::array<char, 64 * 1024> signal_stack;
  stack_t alternative = {};
  alternative.ss_sp = signal_stack.data();
  alternative.ss_size = signal_stack.size();
  if (!SIMT_ASAN) sigaltstack(&alternative, nullptr);
}

// Signals workers whose thread has not given way for Config::hang_seconds: one that spins on a
// plain variable would spin for ever.
class Watchdog {
 public:
  void add(Worker* w) {
    std::lock_guard lock(mutex_);
    if (!started_) {
      std::thread([this] { watch(); }).detach();
      started_ = true;
    }
    watched_.push_back({w, pthread_self(), w->switches, Timer::now()});
    changed_.notify_one();
  }
  void remove(const Worker* w) {
    std::lock_guard lock(mutex_);
    std::erase_if(watched_, [&](const Watched& x) { return x.worker == w; });
  }

 private:
  using Timer = std::chrono::steady_clock;
  struct Watched {
    Worker* worker;
    pthread_t thread;
    std::uint64_t switches;
    Timer::time_point since;
  };

  void watch() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !watched_.empty(); });
      changed_.wait_for(lock, std::chrono::milliseconds(100));
      for (Watched& x : watched_) {
        const std::uint64_t now = x.worker->switches.load(std::memory_order_relaxed);
        const std::chrono::duration<double> still = Timer::now() - x.since;
        if (now != x.switches) {
          x.switches = now;
          x.since = Timer::now();
        } else if (still.count() > config().hang_seconds) {
          pthread_kill(x.thread, kHangSignal);
        }
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  std::vector<Watched> watched_;
};

// Never destroyed: its thread runs until the process ends.
Watchdog& watchdog() {
  static Watchdog& instance = *new Watchdog;
  return instance;
}

void report_fault(const Fault& fault) {
  if (fault.kind == Fault::kHang) {
    report("hang", fmt::format("LIVELOCK: a thread ran for {} s without giving way, last near {}",
                               config().hang_seconds, line_of(fault.pc)));
    return;
  }
  const auto address = reinterpret_cast<std::uintptr_t>(fault.address);
  const Allocation* a = find_allocation(address);
  std::string what = "no device memory";
  if (a != nullptr && !a->live)
    what = fmt::format("freed memory of {} bytes", a->bytes);
  else if (a != nullptr)
    what = fmt::format("offset {} of an allocation of {} bytes",
                       static_cast<std::int64_t>(address - a->begin), a->bytes);
  report(fmt::format("fault{}", fault.pc), fmt::format("OUT OF BOUNDS: access to {} at {}: {}",
                                                       fault.address, line_of(fault.pc), what));
}

// ---- A set of blocks that run together

std::byte* map_zeroed(std::size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(p);
}

// What is mapped there next must not be born poisoned.
void unmap(std::byte* p, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(p, bytes);
  munmap(p, bytes);
}

void reserve_fibers(Worker& w, std::size_t count) {
  if (w.threads.size() != count) w.threads = std::vector<Thread>(count);
  w.ring.assign(std::bit_ceil(count + 1), nullptr);
  if (w.stack_count >= count) return;
  if (w.stacks != nullptr) unmap(w.stacks, w.stack_count * kStackBytes);
  w.stacks = map_zeroed(count * kStackBytes);
  w.stack_count = count;
  for (std::size_t i = 0; i < std::min(count, kGuardedStacks); ++i)
    mprotect(w.stacks + i * kStackBytes, kPage, PROT_NONE);
}

uint3 position_in(std::uint32_t index, dim3 extent) {
  return {index % extent.x, index / extent.x % extent.y, index / extent.x / extent.y};
}

void start_block(Block& b, const Grid& grid, std::uint32_t index, int threads) {
  b.position = {{}, position_in(index, grid.grid), grid.block, grid.grid};
  b.index = index;
  b.threads = b.alive = threads;
  b.dynamic_bytes = static_cast<std::uint32_t>(grid.shared_bytes);
  b.static_top = kArena;
  if (b.arena == nullptr) b.arena = map_zeroed(kArena + kArenaGuard);
  ASAN_POISON_MEMORY_REGION(b.arena, kArena + kArenaGuard);
  if (SIMT_CHECK && !b.shadow) b.shadow = Cells<SharedCell>(kArena + kArenaGuard);
  for (const SharedArray& array : b.arrays)  // of the block before
    if (SIMT_CHECK)
      b.shadow.visit(array.offset, array.bytes, [](SharedCell& cell) {
        cell = {};
        return true;
      });
  b.arrays.clear();
  b.barriers.fill({});
  b.mbarriers.clear();
  b.agent_clock.fill(0);
  b.visits.clear();
  b.before_exit.clear();
  b.warpgroups.assign(static_cast<std::size_t>((threads + kWarpgroup - 1) / kWarpgroup), {});
  b.warps.assign(static_cast<std::size_t>((threads + kWarp - 1) / kWarp), {});
  for (std::size_t i = 0; i < b.warps.size(); ++i) {
    const int lanes = std::min(threads - static_cast<int>(i) * kWarp, kWarp);
    b.warps[i].existing = b.warps[i].alive = ~0u >> (kWarp - lanes);
  }
}

void start_thread(Thread& t, Block& b, int index, char* stack, const SharedClock& origin) {
  Fiber fiber;
  std::swap(fiber, t.fiber);
  t = Thread();
  static_cast<Position&>(t) = b.position;
  t.thread = position_in(static_cast<std::uint32_t>(index), b.position.block_extent);
  t.block_state = &b;
  t.index = index;
  t.entry = b.first_entry() + index;
  t.lane = index % kWarp;
  t.warp = &b.warps[static_cast<std::size_t>(index / kWarp)];
  t.warp->lanes[static_cast<std::size_t>(t.lane)] = &t;
  t.seen = origin;
  // Frames that an earlier thread left on this stack without returning may be poisoned.
  ASAN_UNPOISON_MEMORY_REGION(stack + kPage, kStackBytes - kPage);
  // Stacks at equal distances would share the same few sets of the cache.
  const std::size_t colour = 64 + static_cast<std::size_t>(index % 61) * 192;
  prepare_fiber(t.fiber, stack + kPage, kStackBytes - kPage - colour, run_thread);
}

void run_blocks(Worker& w, std::uint32_t first, std::uint32_t count) {
  const Grid& grid = *w.launch;
  const int threads = static_cast<int>(grid.block.x * grid.block.y * grid.block.z);
  const std::size_t total = static_cast<std::size_t>(threads) * count;
  reserve_fibers(w, total);
  while (w.blocks.size() < count) w.blocks.push_back(std::make_unique<Block>());
  w.head = w.runnable = 0;
  w.live = static_cast<int>(total);
  w.dead = false;
  w.fault = {};
  w.polls = 0;
  w.loads.clear();
  w.grid_barrier = {};
  w.random_state = (config().seed * 0x9E3779B97F4A7C15ull + first * 0xBF58476D1CE4E5B9ull) | 1;

  const SharedClock origin =
      SIMT_CHECK ? std::make_shared<const Clock>(grid.cluster * (threads + kAgents)) : nullptr;
  w.clusters.assign(count / grid.cluster, {});
  for (std::uint32_t k = 0; k < count; ++k) {
    Block& b = *w.blocks[k];
    start_block(b, grid, first + k, threads);
    b.cluster = &w.clusters[k / grid.cluster];
    b.rank = static_cast<int>(k % grid.cluster);
    b.cluster->blocks.push_back(&b);
    b.first = &w.threads[static_cast<std::size_t>(threads) * k];
    for (int i = 0; i < threads; ++i) {
      Thread& t = b.first[i];
      const auto slot = static_cast<std::size_t>(&t - w.threads.data());
      start_thread(t, b, i, reinterpret_cast<char*>(w.stacks) + slot * kStackBytes, origin);
      w.push_back(&t);
    }
  }

  switch_to(nullptr, next_thread());
  current = nullptr;
  if (w.fault.kind != Fault::kNone) report_fault(w.fault);
  if (w.dead) w.launch->stop = true;
  for (std::uint32_t k = 0; k < count; ++k)
    for (Warp& warp : w.blocks[k]->warps) run_profile(warp);
}

// Runs blocks of the grid until there are no more.
void work(Grid& grid, std::atomic<std::uint64_t>& barriers, std::atomic<std::uint64_t>& mma) {
  // Kept between launches: stacks and arenas are costly to make.
  static thread_local std::unique_ptr<Worker> own;
  if (own == nullptr) own = std::make_unique<Worker>();
  install_handlers();
  worker = own.get();
  worker->launch = &grid;
  worker->barriers = worker->mma = 0;
  watchdog().add(worker);
  const std::uint32_t together = grid.cooperative ? grid.blocks : grid.cluster;
  for (std::uint32_t i; !grid.stop && (i = grid.next.fetch_add(together)) < grid.blocks;)
    run_blocks(*worker, i, together);
  watchdog().remove(worker);
  barriers += worker->barriers;
  mma += worker->mma;
  worker->launch = nullptr;
}

}  // namespace

std::uint32_t Worker::random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<std::uint32_t>(random_state >> 32);
}

Worker::~Worker() {
  if (stacks != nullptr) unmap(stacks, stack_count * kStackBytes);
  for (const auto& block : blocks)
    if (block->arena != nullptr) unmap(block->arena, kArena + kArenaGuard);
}

void park(const char* waits_for, int id, const void* pc) {
  Thread* t = running();
  t->waits_for = waits_for;
  t->waits_for_id = id;
  t->pc = pc;
  Thread* next = next_thread();
  if (next == t) return;
  if (next == nullptr) {
    report_deadlock();
    stop_launch();
  }
  switch_to(t, next);
}

void stop_launch() {
  worker->dead = true;
  switch_to(running(), nullptr);
  std::abort();  // the launcher does not come back
}

void yield_at(const void* pc) {
  Thread* t = running();
  Worker& w = *worker;
  constexpr std::uint64_t kPollsPerLoad = 256;
  if (++w.polls % kPollsPerLoad == 0 && !w.loads.empty()) run_some_load();
  if (w.polls > kMaxPolls) {
    report("livelock",
           fmt::format("LIVELOCK: threads polled {} times and nothing moved, last at {}", kMaxPolls,
                       line_of(pc)));
    stop_launch();
  }
  w.push_back(t);
  park("what it polls", -1, pc);
}

SIMT_ENTRY void yield() {
  yield_at(SIMT_CALLER);
}

SIMT_ENTRY void trap(const char* what) {
  report(fmt::format("trap{}", SIMT_CALLER),
         fmt::format("TRAP: {} at {}", what, line_of(SIMT_CALLER)));
  stop_launch();
}

std::uint64_t nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

void require_sm90(const char* what, const void* pc) {
  if (device().major >= 9) return;
  report(fmt::format("sm90{}", pc),
         fmt::format("ARCHITECTURE: {} at {} needs compute capability 9.0, the device has {}.{}",
                     what, line_of(pc), device().major, device().minor));
}

cudaError_t check_launch(const Launch& launch) {
  const dim3 g = launch.grid, b = launch.block;
  const std::size_t threads = std::size_t{b.x} * b.y * b.z;
  if (threads == 0 || threads > kMaxBlockThreads || b.z > 64 || g.x == 0 || g.y == 0 || g.z == 0 ||
      g.y > kMaxGridYz || g.z > kMaxGridYz)
    return cudaErrorInvalidConfiguration;
  if (launch.cluster == 0 || launch.cluster > kMaxCluster || g.x % launch.cluster != 0 ||
      (launch.cluster > 1 && device().major < 9))
    return cudaErrorInvalidClusterSize;
  return launch.shared_bytes > device().shared_per_block ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t run_launch(const Launch& launch) {
  const dim3 g = launch.grid;
  static std::atomic<std::uint32_t> ids{1};
  Grid grid;
  static_cast<Launch&>(grid) = launch;
  grid.blocks = g.x * g.y * g.z;
  grid.id = ids++;
  reset_block_order();
  // Shadow cells of global memory have no locks, so check builds run one block at a time.
  const int workers = SIMT_CHECK || launch.cooperative
                          ? 1
                          : std::min(config().workers, static_cast<int>(grid.blocks));
  std::atomic<std::uint64_t> barriers{0}, mma{0};
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < workers; ++i) others.emplace_back([&] { work(grid, barriers, mma); });
    work(grid, barriers, mma);
  }
  check_guards();
  if (config().profile) finish_profile(grid, barriers, mma);
  throw_findings();
  return cudaSuccess;
}

}  // namespace machine
}  // namespace simt
