// The ways to launch a kernel; part of kernel.h, whose two halves define launch_as. All throw
// tessera::Error where the runtime refuses.
#pragma once

#include <utility>

namespace simt {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  launch_as({}, kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...);
}

// With all blocks resident, as grid_sync() needs (grid_sync.h), where `cooperative`.
template <class... Parameters, class... Arguments>
void launch_ex(bool cooperative, void (*kernel)(Parameters...), dim3 grid, dim3 block,
               std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  launch_as({.cooperative = cooperative}, kernel, grid, block, shared_bytes, stream,
            std::forward<Arguments>(arguments)...);
}

// In clusters of `cluster` blocks, 1 to 8, that are neighbours along x; compute capability 9.0
// where it is not 1. grid.x is a multiple of it.
template <class... Parameters, class... Arguments>
void launch_clusters(unsigned cluster, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                     std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  launch_as({.cluster = cluster}, kernel, grid, block, shared_bytes, stream,
            std::forward<Arguments>(arguments)...);
}

}  // namespace simt
