// Runs a graph on the CPU: plans once per shape, then one visible loop.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/plan.h"
#include "kernels/cpu/step.h"

namespace tessera {

// Gives the weight tensor of a name; throws where there is none of that shape.
using WeightSource = std::function<TensorView(const std::string& name, const Shape& shape)>;

// What one node did in one run.
struct NodeTiming {
  std::string name;
  std::string kind;
  Cost cost;
  double start = 0;  // seconds since the run began
  double seconds = 0;
};

class Executor {
 public:
  static constexpr int kMaxThreads = 4096;

  // Takes every weight of the graph at once, so that a bad model file fails here. `example` are
  // input types of any size that runs; they settle the channel counts.
  Executor(Graph graph, const WeightSource& weights, Types example, int threads);

  // Types of the graph's outputs for these inputs. Throws an Error that names the node that cannot
  // take them.
  std::vector<TensorType> output_types(Types inputs) const;

  // The memory plan for these inputs: arena and peak, before anything runs.
  const Plan& plan(Types inputs);

  // Bytes of weights in the kernels' own order; final once a plan was made.
  std::size_t packed_bytes() const { return packed_->bytes(); }

  // Bytes of the arena that is allocated now; a run grows it to its plan's peak.
  std::size_t arena_bytes() const { return arena_.size(); }

  // Computes `outputs` from `inputs`, both in the graph's order and dense. With `timings`, appends
  // one entry per node. Not for use by two threads at once.
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
           std::vector<NodeTiming>* timings = nullptr);

  const Graph& graph() const { return graph_; }
  int threads() const { return threads_; }

 private:
  // All that depends on the input shapes.
  struct Prepared {
    std::vector<TensorType> inputs;
    std::vector<TensorType> types;        // of all values
    std::vector<CpuStep> steps;           // by node
    std::vector<std::size_t> buffer_of;   // value -> index in plan.buffers, or kExternal
    std::vector<std::size_t> scratch_of;  // node -> index in plan.buffers
    Plan plan;
  };
  static constexpr std::size_t kExternal = static_cast<std::size_t>(-1);
  // Shapes whose plans are kept; ragged documents come in many, images in few.
  static constexpr std::size_t kPlansKept = 16;

  Prepared& prepare(Types inputs);
  Prepared make(Types inputs) const;

  Graph graph_;
  std::vector<std::vector<TensorView>> weights_;  // by node
  std::unique_ptr<PackedWeights> packed_ = std::make_unique<PackedWeights>();
  int threads_;
  std::list<Prepared> prepared_;  // most recently used first
  AlignedBuffer arena_;
};

}  // namespace tessera
