// Threads of the CPU kernels: OpenMP's pool.
#pragma once

#include <omp.h>  // omp_get_thread_num() picks a task's share of the scratch

#include <cstdint>

namespace tessera {

// Calls body(i) once for each i in [0, count), on up to `threads` threads, in any order. `body`
// must not throw and must not write what another call reads.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1 && count > 1)
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace tessera
