#include "kernels/cuda/shared_memory.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/check.h"

namespace tessera {

void allow_shared_memory(const void* kernel, std::size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, std::size_t> allowed;  // by device and kernel
  constexpr const char* kWhat = "more than 48 KiB of shared memory for a kernel";
  int device = 0;
  cuda_check(cudaGetDevice(&device), kWhat);
  const std::lock_guard lock(mutex);
  std::size_t& limit = allowed[{device, kernel}];
  if (bytes <= limit) return;
  int most = 0;
  cuda_check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), kWhat);
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, kernel), kWhat);
  const std::size_t dynamic = static_cast<std::size_t>(most) - attributes.sharedSizeBytes;
  // What asks for more gets the runtime's own error.
  const std::size_t wanted = bytes > dynamic ? bytes : dynamic;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(wanted)),
             kWhat);
  limit = wanted;
}

}  // namespace tessera
