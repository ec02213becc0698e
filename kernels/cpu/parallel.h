// Threads of the CPU: one pool for the whole process, behind one loop.
//
// The thread that calls a loop always works on it, and workers of the pool join while fewer threads
// compute than the loop may use; so several callers at once are not more threads than processors.
// Nobody waits for a worker that has not begun: one that finds no processor takes no part. Waiting
// threads spin for microseconds and then sleep, so that a busy machine or a container with part of
// a processor loses nothing to them. A forked child makes workers of its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace tessera {

namespace detail {

// Calls call(body, i, slot) as parallel_for says.
void run_parallel(int threads, std::int64_t count,
                  void (*call)(const void* body, std::int64_t i, int slot), const void* body);

}  // namespace detail

// Calls body(i) or body(i, slot) once for each i in [0, count), in any order, on the calling thread
// and up to `threads` - 1 others. Calls that run at the same time have different slots in
// [0, threads): what picks a call's share of scratch memory. `body` must not write what another
// call reads. The first exception of a body is thrown once those that had begun are done; the rest
// are left out. A body may itself call parallel_for.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
  const auto call = [](const void* b, std::int64_t i, [[maybe_unused]] int slot) {
    if constexpr (std::is_invocable_v<const Body&, std::int64_t, int>) {
      (*static_cast<const Body*>(b))(i, slot);
    } else {
      (*static_cast<const Body*>(b))(i);
    }
  };
  if (threads > 1 && count > 1) {
    detail::run_parallel(threads, count, call, &body);
  } else {
    for (std::int64_t i = 0; i < count; ++i) call(&body, i, 0);
  }
}

}  // namespace tessera
