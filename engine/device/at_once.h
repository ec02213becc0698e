// Work that waits for devices and files, each on a thread of its own: the threads of the pool
// (kernels/cpu/parallel.h) are for what computes, and leave a loop when others compute.
#pragma once

#include <cstddef>
#include <functional>
#include <future>
#include <system_error>
#include <vector>

namespace tessera {

// Calls body(i) once for each i in [0, count), all at once, 0 on the calling thread; one after
// another where no more threads are to be had. Throws the first exception once all have ended.
inline void run_at_once(std::size_t count, const std::function<void(std::size_t)>& body) {
  std::vector<std::future<void>> others;  // their destructors wait
  std::size_t i = 1;
  try {
    for (; i < count; ++i)
      others.push_back(std::async(std::launch::async, [&body, i] { body(i); }));
  } catch (const std::system_error&) {
  }
  if (count > 0) body(0);
  for (; i < count; ++i) body(i);
  for (std::future<void>& other : others) other.get();
}

}  // namespace tessera
