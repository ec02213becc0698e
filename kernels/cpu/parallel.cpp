#include "kernels/cpu/parallel.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tessera::detail {
namespace {

// Longer than the gap between two kernels of one network (a few microseconds), so that no worker
// sleeps within a run; far shorter than a scheduler's slice, so that one that waits in vain costs
// its neighbours nothing to speak of.
constexpr std::chrono::microseconds kSpin{30};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Whether `ready` came true within kSpin.
template <class Ready>
bool spin_until(const Ready& ready) {
  constexpr int kPausesPerLook = 16;  // reading the clock costs about as much as one pause
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// One loop; it lives on its caller's stack, and leaves the pool's list before the caller returns.
struct Loop {
  const int limit;    // no thread joins while as many compute
  const int threads;  // at most in it: no more than it has calls
  const std::int64_t count;
  void (*const call)(const void* body, std::int64_t i, int slot);
  const void* const body;
  std::atomic<std::int64_t> next{0};
  std::atomic<int> workers{0};  // inside it now; rises under the pool's lock alone
  int slots = 1;                // given so far; the caller has slot 0. Under the lock
  std::exception_ptr error{};   // the first; under the lock

  // Takes indices until there are none left, or `stay()` is false.
  template <class Stay>
  void work(int slot, std::mutex& mutex, const Stay& stay) {
    try {
      while (stay()) {
        const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= count) break;
        call(body, i, slot);
      }
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }
};

class Pool {
 public:
  void run(Loop& loop) {
    open(loop);
    loop.work(0, mutex_, [] { return true; });
    close(loop);
    if (loop.error) std::rethrow_exception(loop.error);
  }

 private:
  // Offers `loop` to the workers.
  void open(Loop& loop) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      loops_.push_back(&loop);
      ++computing_;
      while (workers_ < loop.threads - 1 && add_worker()) {
      }
      wake = call_workers();
    }
    if (wake) work_.notify_one();  // who joins calls the next
  }

  // No worker joins any more; waits for those inside.
  void close(Loop& loop) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      std::erase(loops_, &loop);
      --computing_;
      wake = call_workers();
    }
    if (wake) work_.notify_one();
    if (spin_until([&] { return loop.workers.load(std::memory_order_acquire) == 0; })) return;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return loop.workers.load(std::memory_order_relaxed) == 0; });
  }

  // A loop that one more thread may join now, or null. Under the lock.
  Loop* joinable() const {
    for (Loop* loop : loops_) {
      if (loop->slots < loop->threads && computing_ < loop->limit &&
          loop->next.load(std::memory_order_relaxed) < loop->count)
        return loop;
    }
    return nullptr;
  }

  // Where there is something to join, lets the workers that spin look again. Returns whether one
  // that sleeps must be woken because none spins. Under the lock.
  bool call_workers() {
    if (joinable() == nullptr) return false;
    calls_.fetch_add(1, std::memory_order_release);
    return spinning_ == 0 && sleeping_ > 0;
  }

  bool add_worker() {
    // A host's signals are for its own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool made = true;
    try {
      std::thread([this] { serve(); }).detach();
      ++workers_;
    } catch (const std::system_error&) {
      made = false;  // no more threads are to be had: those that are there do the work
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return made;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (Loop* loop = joinable()) {
        const int slot = loop->slots++;
        ++computing_;
        loop->workers.fetch_add(1, std::memory_order_relaxed);
        const bool wake = call_workers();
        lock.unlock();
        if (wake) work_.notify_one();
        // When other callers begin, workers make room for them.
        loop->work(slot, mutex_,
                   [&] { return computing_.load(std::memory_order_relaxed) <= loop->limit; });
        lock.lock();
        --computing_;
        // The loop's caller may return from here on; it is not touched again.
        if (loop->workers.fetch_sub(1, std::memory_order_release) == 1) done_.notify_all();
        continue;
      }
      const unsigned seen = calls_.load(std::memory_order_relaxed);
      const auto called = [&] { return calls_.load(std::memory_order_acquire) != seen; };
      ++spinning_;
      lock.unlock();
      const bool soon = spin_until(called);
      lock.lock();
      --spinning_;
      if (soon) continue;
      ++sleeping_;
      work_.wait(lock, called);
      --sleeping_;
    }
  }

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::atomic<unsigned> calls_{0};
  std::vector<Loop*> loops_;         // open, the oldest first
  int workers_ = 0;                  // threads of the pool
  std::atomic<int> computing_{0};    // callers and workers in loops; changes under the lock
  int spinning_ = 0, sleeping_ = 0;  // workers that wait
};

// Never destroyed: its threads may run until the process ends.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  static const bool made = [] {
    the_pool = new Pool;
    // Threads do not survive a fork, and their locks stay as they were: the child starts anew.
    pthread_atfork(nullptr, nullptr, [] { the_pool = new Pool; });
    return true;
  }();
  static_cast<void>(made);
  return *the_pool.load(std::memory_order_acquire);
}

}  // namespace

void run_parallel(int threads, std::int64_t count,
                  void (*call)(const void* body, std::int64_t i, int slot), const void* body) {
  Loop loop{.limit = threads,
            .threads = static_cast<int>(std::min<std::int64_t>(threads, count)),
            .count = count,
            .call = call,
            .body = body};
  pool().run(loop);
}

}  // namespace tessera::detail
