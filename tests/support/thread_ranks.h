// Ranks that are threads of this process.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "engine/train/ranks.h"

namespace tessera::test {

class ThreadRanks : public Ranks {
 public:
  struct Shared {
    explicit Shared(int count) : meeting(count), sent(static_cast<std::size_t>(count)) {}
    std::barrier<> meeting;
    std::vector<std::span<const std::byte>> sent;
  };

  ThreadRanks(int rank, int count, Shared& shared) : Ranks(rank, count), shared_(shared) {}

  void exchange(std::span<const std::byte> send, std::span<std::byte> received) override {
    const std::size_t part = send.size() / shared_.sent.size();
    meet(send, [&] {
      for (std::size_t i = 0; i < shared_.sent.size(); ++i)
        std::ranges::copy(shared_.sent[i].subspan(part * static_cast<std::size_t>(rank()), part),
                          received.begin() + static_cast<std::ptrdiff_t>(part * i));
    });
  }
  void gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    meet(own, [&] {
      for (std::size_t i = 0; i < shared_.sent.size(); ++i)
        std::ranges::copy(shared_.sent[i],
                          all.begin() + static_cast<std::ptrdiff_t>(own.size() * i));
    });
  }
  void broadcast(std::span<std::byte> bytes) override {
    meet(bytes, [&] {
      if (!is_first()) std::ranges::copy(shared_.sent[0], bytes.begin());
    });
  }

 private:
  // All give, then all take, then all may change what they gave.
  void meet(std::span<const std::byte> given, const std::function<void()>& take) {
    shared_.sent[static_cast<std::size_t>(rank())] = given;
    shared_.meeting.arrive_and_wait();
    take();
    shared_.meeting.arrive_and_wait();
  }

  Shared& shared_;
};

// Runs `work` on so many ranks; returns what each threw, empty where it threw nothing.
inline std::vector<std::string> run_ranks(
    int count, const std::function<void(const std::shared_ptr<Ranks>&)>& work) {
  ThreadRanks::Shared shared(count);
  std::vector<std::string> errors(static_cast<std::size_t>(count));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        work(std::make_shared<ThreadRanks>(rank, count, shared));
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
        shared.meeting.arrive_and_drop();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace tessera::test
