// Work on many files at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace tessera {

// Calls work(i) for every i below `count`, on so many threads. Exceptions must not leave `work`.
template <class Work>
void for_each_index(std::size_t count, int threads, Work&& work) {
  std::atomic<std::size_t> next = 0;
  const auto loop = [&] {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(loop);
  loop();
}

}  // namespace tessera
