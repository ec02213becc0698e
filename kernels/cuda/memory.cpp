#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/step.h"

namespace tessera {

DeviceBuffer::DeviceBuffer(std::size_t bytes) : size_(bytes) {
  void* memory = nullptr;
  if (bytes > 0) {
    const std::string what =
        fmt::format("{:.1f} MiB of device memory", static_cast<double>(bytes) / (1 << 20));
    cuda_check(cudaMalloc(&memory, bytes), what.c_str());
  }
  memory_.reset(static_cast<std::byte*>(memory));
}

void DeviceBuffer::Free::operator()(std::byte* p) const {
  cudaFree(p);  // an error here is an earlier one's echo; a destructor has nobody to tell
}

std::shared_ptr<const DeviceBuffer> DeviceWeights::get(
    const std::string& key, std::size_t bytes, const std::function<void(std::byte*)>& fill) {
  return make_once(key, bytes, [&](std::byte* device) {
    std::vector<std::byte> host(bytes);
    fill(host.data());
    cuda_check(cudaMemcpy(device, host.data(), bytes, cudaMemcpyHostToDevice), "copy of weights");
    // From pageable memory the call returns before the last bytes have arrived, and a non-blocking
    // stream does not wait for them.
    cuda_check(cudaStreamSynchronize(nullptr), "copy of weights");
  });
}

std::shared_ptr<const DeviceBuffer> DeviceWeights::get_computed(
    const std::string& key, std::size_t bytes, CudaStream stream,
    const std::function<void(std::byte*)>& compute) {
  return make_once(key, bytes, [&](std::byte* device) {
    compute(device);
    cuda_check(cudaStreamSynchronize(stream), "computation of weights");
  });
}

std::shared_ptr<const DeviceBuffer> DeviceWeights::make_once(
    const std::string& key, std::size_t bytes, const std::function<void(std::byte*)>& make) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<const DeviceBuffer>& buffer = buffers_[key];
  if (!buffer) {
    auto made = std::make_shared<DeviceBuffer>(bytes);
    if (bytes > 0) make(made->get());
    buffer = std::move(made);
  }
  require(buffer->size() == bytes, "packed weights '{}' are {} bytes, but {} were asked for", key,
          buffer->size(), bytes);
  return buffer;
}

std::shared_ptr<const DeviceBuffer> DeviceWeights::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = buffers_.find(key);
  return found != buffers_.end() ? found->second : nullptr;
}

std::size_t DeviceWeights::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [key, buffer] : buffers_) total += buffer->size();
  return total;
}

}  // namespace tessera
