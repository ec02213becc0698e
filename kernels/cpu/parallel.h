// Threads of the CPU kernels. oneDNN runs on OpenMP, so everything does: one pool, no contention.
#pragma once

#include <omp.h>

#include <cstdint>

namespace tessera {

// Calls body(i) once for each i in [0, count), on up to `threads` threads, in any order. `body`
// must not throw and must not write what another call reads.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

// Makes oneDNN use `threads` on this thread while in scope.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace tessera
