// How an operator joins the CUDA executor: what it is told when it is asked for a Step.
//
// An operator's CUDA path is three files of its folder: cuda.h, plain structs of pointers and
// extents with the launchers that take them; cuda.cu, the kernels and those launchers, which nvcc
// or, for the emulator, the host compiler takes (cuda/kernel.h); cuda.cpp, host code that turns
// attributes and shapes into such a struct, packs weights and chooses the technique.
// No CUDA header is needed to include this one.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/cuda/stream.h"
#include "kernels/operator.h"
#include "kernels/precision.h"

namespace tessera {

// What the choice of technique and tile may depend on.
struct CudaTraits {
  int capability = 0;  // compute capability: 80, 90, ...
  int multiprocessors = 0;
  std::size_t shared_per_block = 0;  // bytes that one block may have at most
};

// Owning, uninitialised device memory, aligned to 256 bytes.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // Throws Error with the remedy where there is not that much.
  explicit DeviceBuffer(std::size_t bytes);
  std::byte* get() const { return memory_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t size_ = 0;
};

// Weights of a node on the device in the order that a kernel reads them, made once and shared by
// all shapes and threads that run it.
class DeviceWeights {
 public:
  // The buffer of `key` (layout), of `bytes`; when absent, `fill` writes it in host memory, and it
  // is copied to the device.
  std::shared_ptr<const DeviceBuffer> get(const std::string& key, std::size_t bytes,
                                          const std::function<void(std::byte*)>& fill);
  // The same for what kernels compute: `compute` enqueues the work that writes it, given where.
  // When this returns the work is done.
  std::shared_ptr<const DeviceBuffer> get_computed(const std::string& key, std::size_t bytes,
                                                   CudaStream stream,
                                                   const std::function<void(std::byte*)>& compute);
  // The buffer of `key`, or null.
  std::shared_ptr<const DeviceBuffer> find(const std::string& key) const;
  std::size_t bytes() const;  // of all buffers

 private:
  std::shared_ptr<const DeviceBuffer> make_once(const std::string& key, std::size_t bytes,
                                                const std::function<void(std::byte*)>& make);

  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const DeviceBuffer>> buffers_;
};

// All that a step may depend on besides the memory it is run on. The step enqueues its work on
// `stream` and does not wait for it. Its operands are device memory; `Operands::weights` is empty
// in a run: a step keeps what it needs of them in `packed`.
struct CudaSetup {
  std::string name;                     // of the node; unique in its graph
  Types inputs;                         // types of this shape
  std::span<const TensorView> weights;  // in host memory: f32, bf16 or f16, in `parameters` order
  CudaTraits traits;
  Precision math = Precision::kFp32;
  CudaStream stream = nullptr;
  DeviceWeights* packed = nullptr;
};

}  // namespace tessera
