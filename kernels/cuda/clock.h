// The device's clock as a kernel reads it; beside kernel.h, for the one kernel that needs it.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernel.h"

namespace simt::machine {
std::uint64_t nanoseconds();  // of the emulated device
}

namespace ptx {

// It steps by up to a microsecond.
#if defined(__CUDACC__)
PTX_INLINE std::uint64_t global_nanoseconds() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}
#else
SIMT_INLINE std::uint64_t global_nanoseconds() {
  return simt::machine::nanoseconds();
}
#endif

}  // namespace ptx
