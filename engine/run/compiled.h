// A graph made ready for a device, with its weights: what any number of threads run at once, each
// with an Executor of its own (engine/run/executor.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/device/device.h"
#include "engine/graph/graph.h"

namespace tessera {

// Gives the weight tensor of a name; throws where there is none of that shape.
using WeightSource = std::function<TensorView(const std::string& name, const Shape& shape)>;

class Compiled {
 public:
  // Takes every weight of `graph` at once, so that a bad model file fails here; what they point to
  // must outlive this. `graph` is one that `device` made for itself (Device::optimise). `example`
  // are input types of any size that runs; they settle the channel counts.
  Compiled(Graph graph, const WeightSource& weights, Types example,
           std::shared_ptr<const Device> device);

  const Device& device() const { return *device_; }
  const Graph& graph() const { return graph_; }
  const std::vector<TensorView>& weights(std::size_t node) const { return weights_[node]; }

  // The weights in the kernels' own order. They depend on channels, precision and device alone:
  // the first Executor that plans packs them, and later ones, of whatever sizes, add nothing.
  Packed& packed() const { return *packed_; }

  // Bytes of the arenas of all Executors of this, as they are allocated now.
  std::size_t arena_bytes() const { return arena_bytes_; }
  // An Executor's arena became so much larger, or smaller.
  void count_arena(std::ptrdiff_t bytes) const { arena_bytes_ += static_cast<std::size_t>(bytes); }

 private:
  std::shared_ptr<const Device> device_;  // outlives all that was made by it
  Graph graph_;
  std::vector<std::vector<TensorView>> weights_;  // by node
  std::unique_ptr<Packed> packed_;                // which locks itself
  mutable std::atomic<std::size_t> arena_bytes_ = 0;
};

}  // namespace tessera
