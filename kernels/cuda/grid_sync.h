// The barrier of a whole grid, for the few kernels that are launched cooperatively: its header
// takes nvcc longer than most kernels do.
#pragma once

#include "kernels/cuda/kernel.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>

namespace simt {

// A barrier of all threads of a cooperative launch.
PTX_INLINE void grid_sync() {
  cooperative_groups::this_grid().sync();
}

}  // namespace simt
#endif
