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

// Uninitialised memory, mostly its own, aligned to 64 bytes; from kHugePages bytes on, in pages of
// 2 MiB, which saves a wide matrix product 5 to 10% of its time in address translation.
class AlignedBuffer {
 public:
  AlignedBuffer() : AlignedBuffer(nullptr, 0) {}
  static constexpr std::size_t kHugePages = std::size_t{8} << 20;
  explicit AlignedBuffer(std::size_t bytes);
  AlignedBuffer(std::byte* borrowed, std::size_t bytes);  // somebody else's memory
  std::byte* get() const { return memory_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    bool borrowed;  // no initialiser: a nested one would make unique_ptr() ill-formed
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t size_ = 0;
};

// Weights of a node in the order that a CPU kernel reads them: made once, for all shapes, threads.
class PackedWeights {
 public:
  PackedWeights() = default;
  // Cuts its buffers from `memory` (64-byte aligned, `packed_scratch` bytes of the set it repeats):
  // for weights that change from run to run, where new pages would cost more than packing does.
  explicit PackedWeights(std::byte* memory) : memory_(memory) {}

  // The buffer of `key` (which names the layout), of `bytes`; when absent it is allocated and
  // handed to `fill`.
  std::shared_ptr<const AlignedBuffer> get(const std::string& key, std::size_t bytes,
                                           const std::function<void(std::byte*)>& fill);
  std::size_t bytes() const;  // of all buffers
  // What another set of the same buffers takes of borrowed memory.
  std::size_t packed_scratch() const;

 private:
  mutable std::mutex mutex_;
  std::byte* memory_ = nullptr;  // of the next buffer; null: each owns its own
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
