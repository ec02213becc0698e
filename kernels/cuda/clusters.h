// How many clusters of blocks run at once. Included by nvcc too, so no library appears here.
#pragma once

#include <cstddef>

namespace tessera {

// Clusters of `cluster` blocks of `kernel`, with these threads and bytes of dynamic shared memory
// each, that are resident on the current device at once; 0 where it takes none. A cluster lies
// within one of the device's groups of multiprocessors, so that some of those stay empty.
unsigned resident_clusters(const void* kernel, unsigned cluster, unsigned threads,
                           std::size_t shared_bytes);

}  // namespace tessera
