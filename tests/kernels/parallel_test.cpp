// The pool behind parallel_for: every index once, slots of its own to each thread, exceptions,
// callers side by side, forks.
#include "kernels/cpu/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/sanitizers.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;

TEST(ParallelFor, CallsEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 16}) {
    for (const std::int64_t count : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      parallel_for(threads, count, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      for (const std::atomic<int>& one : calls) ASSERT_EQ(one, 1) << threads << " " << count;
    }
  }
}

TEST(ParallelFor, NoTwoCallsAtOnceHaveOneSlot) {
  constexpr int kThreads = 4;
  std::vector<std::atomic<int>> inside(kThreads);
  for (int repeat = 0; repeat < 50; ++repeat) {
    parallel_for(kThreads, 32, [&](std::int64_t, int slot) {
      ASSERT_GE(slot, 0);
      ASSERT_LT(slot, kThreads);
      ASSERT_EQ(inside[static_cast<std::size_t>(slot)].fetch_add(1), 0);
      std::this_thread::yield();
      inside[static_cast<std::size_t>(slot)].fetch_sub(1);
    });
  }
}

TEST(ParallelFor, UsesAsManyThreadsAsItMay) {
  // Each of three calls waits for the two others, which only three threads can satisfy.
  std::atomic<int> arrived{0};
  parallel_for(3, 3, [&](std::int64_t) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 3);
}

TEST(ParallelFor, WorkersThatSleptAreWoken) {
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::this_thread::sleep_for(milliseconds(20));
    std::atomic<int> arrived{0};
    parallel_for(3, 3, [&](std::int64_t) {
      ++arrived;
      while (arrived < 3) std::this_thread::yield();
    });
  }
}

TEST(ParallelFor, WaitingThreadsSleep) {
  parallel_for(4, 100, [](std::int64_t) {});
  std::this_thread::sleep_for(milliseconds(50));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(milliseconds(300));
  const double seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.1) << "of processor time while there was nothing to do";
}

TEST(ParallelFor, ThrowsTheFirstExceptionAndGoesOnToWork) {
  for (const int threads : {1, 4}) {
    std::atomic<int> after{0};
    EXPECT_THROW(parallel_for(threads, 1'000'000,
                              [&](std::int64_t i) {
                                if (i == 10) throw std::runtime_error("ten");
                                if (i > 10) ++after;
                              }),
                 std::runtime_error);
    EXPECT_LT(after, 900'000) << "the rest was to be left out";
    std::atomic<int> calls{0};
    parallel_for(threads, 10, [&](std::int64_t) { ++calls; });
    EXPECT_EQ(calls, 10);
  }
}

TEST(ParallelFor, MayBeNested) {
  std::atomic<int> calls{0};
  parallel_for(3, 8, [&](std::int64_t) { parallel_for(3, 8, [&](std::int64_t) { ++calls; }); });
  EXPECT_EQ(calls, 64);
}

// Callers side by side get no more threads than one of them would: workers that one had join leave.
TEST(ParallelFor, CallersShareTheThreads) {
  constexpr int kCallers = 3, kThreads = 3, kCalls = 200;
  std::atomic<int> computing{0}, crowded{0}, ready{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&] {
      ++ready;
      while (ready < kCallers) std::this_thread::yield();
      parallel_for(kThreads, kCalls, [&](std::int64_t) {
        if (++computing > kThreads) ++crowded;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        --computing;
      });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_LT(crowded, kCallers * kCalls / 4);  // while the callers begin
}

#if !defined(TESSERA_NO_THREADS_IN_A_CHILD)
TEST(ParallelFor, AForkedChildHasThreadsOfItsOwn) {
  const auto use_three = [] {
    std::atomic<int> arrived{0};
    parallel_for(3, 3, [&](std::int64_t) {
      ++arrived;
      while (arrived < 3) std::this_thread::yield();
    });
    return arrived.load();
  };
  // Threads that have begun: the address sanitizer's locks do not survive a fork while one begins.
  ASSERT_EQ(use_three(), 3);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(20);  // a hang ends the child
    ::_exit(use_three() == 3 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}
#endif

}  // namespace
}  // namespace tessera
