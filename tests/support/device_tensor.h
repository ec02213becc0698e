// Memory of a GPU, or of the emulator's, for one tensor of a test.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/step.h"

namespace tessera::test {

// NaN at first; alone, so that the emulator sees any byte beside it touched, or between two bands.
// Fills and copies are done when a call returns: steps run on streams that do not wait for the
// legacy one, and neither cudaMemset nor a cudaMemcpy from pageable memory waits for its end.
class DeviceTensor {
 public:
  static constexpr std::size_t kBand = 256;  // bytes; keeps the alignment of cudaMalloc
  static constexpr int kBandByte = 0x5a;

  DeviceTensor(std::size_t bytes, bool banded)
      : bytes_(bytes), band_(banded ? kBand : 0), memory_(bytes + 2 * band_) {
    if (memory_.size() == 0) return;
    cuda_check(cudaMemset(memory_.get(), kBandByte, memory_.size()), "bands");
    if (bytes > 0) cuda_check(cudaMemset(get(), 0xff, bytes), "NaN");
    cuda_check(cudaStreamSynchronize(nullptr), "NaN");
  }
  std::byte* get() const { return memory_.get() + band_; }

  void upload(const void* from) {
    if (bytes_ > 0) cuda_check(cudaMemcpy(get(), from, bytes_, cudaMemcpyHostToDevice), "upload");
    cuda_check(cudaStreamSynchronize(nullptr), "upload");
  }
  void download(void* to) const {
    if (bytes_ > 0) cuda_check(cudaMemcpy(to, get(), bytes_, cudaMemcpyDeviceToHost), "download");
  }
  bool bands_intact() const {
    std::vector<unsigned char> host(memory_.size());
    if (band_ == 0) return true;
    cuda_check(cudaMemcpy(host.data(), memory_.get(), host.size(), cudaMemcpyDeviceToHost),
               "bands");
    const auto is_band = [](unsigned char byte) { return byte == kBandByte; };
    return std::all_of(host.begin(), host.begin() + kBand, is_band) &&
           std::all_of(host.end() - kBand, host.end(), is_band);
  }

 private:
  std::size_t bytes_;
  std::size_t band_;
  DeviceBuffer memory_;
};

class DeviceStream {
 public:
  DeviceStream() {
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  }
  ~DeviceStream() { cudaStreamDestroy(stream_); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace tessera::test
