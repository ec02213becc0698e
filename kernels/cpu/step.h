// How an operator joins the CPU executor: what it is told when it is asked for a Step.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "kernels/operator.h"

namespace tessera {

// Owning, uninitialised memory, aligned to 64 bytes; from kHugePages bytes on, in pages of 2 MiB,
// which saves a wide matrix product 5 to 10% of its time in address translation.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  static constexpr std::size_t kHugePages = std::size_t{8} << 20;
  explicit AlignedBuffer(std::size_t bytes);
  std::byte* get() const { return memory_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t size_ = 0;
};

// Weights in the order that a CPU kernel reads them, made once and shared by all shapes of a node.
class PackedWeights {
 public:
  // The buffer of `key` (node name + layout); when absent it is allocated with `bytes` and handed
  // to `fill`.
  std::shared_ptr<const AlignedBuffer> get(const std::string& key, std::size_t bytes,
                                           const std::function<void(std::byte*)>& fill);
  std::size_t bytes() const;  // of all buffers

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const AlignedBuffer>> buffers_;
};

// All that a step may depend on besides the memory it is run on.
struct CpuSetup {
  std::string name;                     // of the node; unique in its graph
  Types inputs;                         // types of this shape
  std::span<const TensorView> weights;  // f32, bf16 or f16, in `parameters` order
  int threads = 1;
  PackedWeights* packed = nullptr;
};

}  // namespace tessera
