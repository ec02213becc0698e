// The limit of a kernel's shared memory. Included by nvcc too, so no library appears here.
#pragma once

#include <cstddef>

namespace tessera {

// Lets `kernel` be launched on the current device with more than 48 KiB of dynamic shared memory.
// The limit is the process's, so it goes up once, to the device's most: another thread may be about
// to launch the kernel with more than `bytes`. Throws Error where `bytes` are too many.
void allow_shared_memory(const void* kernel, std::size_t bytes);

}  // namespace tessera
