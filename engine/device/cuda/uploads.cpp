#include "engine/device/cuda/uploads.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/check.h"

namespace tessera {

namespace {
// Large enough that a copy outweighs its launch, small enough that the next part is written while
// it runs.
constexpr std::size_t kPart = std::size_t{1} << 19;
}  // namespace

CudaUploads::CudaUploads(CudaStream stream) : stream_(stream) {}

CudaUploads::~CudaUploads() {
  for (const cudaEvent_t event : copied_)
    if (event != nullptr) cudaEventDestroy(event);
  if (ring_ != nullptr) cudaFreeHost(ring_);
}

void CudaUploads::copy(std::byte* to, const void* from, std::size_t bytes) {
  if (ring_ == nullptr && bytes > 0) {
    for (cudaEvent_t& event : copied_)
      cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    void* memory = nullptr;
    cuda_check(cudaMallocHost(&memory, copied_.size() * kPart),
               "pinned memory for copies to the device");
    ring_ = static_cast<std::byte*>(memory);
  }
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t now = std::min(bytes - done, kPart);
    std::byte* const part = ring_ + next_ * kPart;
    // Its last copy; at once if there was none.
    cuda_check(cudaEventSynchronize(copied_[next_]), "copy to the device");
    std::memcpy(part, static_cast<const std::byte*>(from) + done, now);
    cuda_check(cudaMemcpyAsync(to + done, part, now, cudaMemcpyHostToDevice, stream_),
               "copy to the device");
    cuda_check(cudaEventRecord(copied_[next_], stream_), "time mark");
    next_ = (next_ + 1) % copied_.size();
    done += now;
  }
}

}  // namespace tessera
