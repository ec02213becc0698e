// Runs a Compiled: plans once per shape, then one visible loop.
//
// An Executor has the queue, the arena and the prepared steps of one thread at a time; threads that
// each have one share the Compiled.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device/queue.h"
#include "engine/graph/bands.h"
#include "engine/run/compiled.h"
#include "engine/run/plan.h"
#include "engine/run/recent_shapes.h"

namespace tessera {

// What one node did in one run.
struct NodeTiming {
  std::string name;
  std::string kind;
  Cost cost;
  double start = 0;  // seconds since the run began
  double seconds = 0;
  std::string choice = {};  // of its kernel (engine/device/choice.h)
};

// How a graph, or a piece of it that has all rows, runs in bands of rows.
struct BandedPlan {
  std::shared_ptr<const Graph> graph;
  std::vector<TensorType> types;  // of all values, whole
  Bands bands;                    // before the first one
  BandLayout layout;
  std::vector<std::size_t> buffer_of, scratch_of;  // value, node -> index in plan.buffers
  Plan plan;
  double flops = 0;
};

// Fills rows of the graph's input, of this type.
using RowSource = std::function<void(Interval rows, const TensorView& to)>;
// Takes rows of one of the graph's outputs, by its index there; each row comes once, in order.
using RowSink = std::function<void(std::size_t output, Interval rows, const TensorView& from)>;

class Executor {
 public:
  // Computes on `threads` threads of the CPU; 0: as many as the device was opened with.
  explicit Executor(std::shared_ptr<const Compiled> compiled, int threads = 0);
  // Of a Compiled that nobody else runs.
  Executor(Graph graph, const WeightSource& weights, Types example,
           std::shared_ptr<const Device> device);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Types of the graph's outputs for these inputs. Throws an Error that names the node that cannot
  // take them.
  std::vector<TensorType> output_types(Types inputs) const;

  // A run makes the outputs of the graph, or of a piece of it: the same nodes, each replaced by a
  // part of it (engine/graph/window.h), with the same weights.

  // The memory plan for these inputs: arena and peak, before anything runs. On a GPU the arena
  // holds inputs and outputs too.
  const Plan& plan(Types inputs) { return plan(graph_, inputs); }
  const Plan& plan(const Graph& piece, Types inputs);

  // Bytes of weights in the kernels' own order; final once a plan was made.
  std::size_t packed_bytes() const { return compiled_->packed().bytes(); }

  // Bytes of the arena that is allocated now; a run grows it to its plan's peak.
  std::size_t arena_bytes() const { return arena_.size(); }

  // Computes `outputs` from `inputs`, both in the graph's order, dense, in host memory. With
  // `timings`, appends one entry per node. Not for use by two threads at once. On a GPU the first
  // run of a shape enqueues node by node, the later ones replay it as one recording.
  void run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
           std::vector<NodeTiming>* timings = nullptr) {
    run(graph_, inputs, outputs, timings);
  }
  void run(const Graph& piece, std::span<const TensorView> inputs,
           std::span<const TensorView> outputs, std::vector<NodeTiming>* timings = nullptr);

  // Rows `wanted` of the outputs in bands of `rows` rows of the input (engine/graph/bands.h): equal
  // bytes in less memory. `piece` has one input, of one image of type `input`. On a CPU alone.
  BandedPlan plan_bands(const Graph& piece, const TensorType& input, Interval wanted,
                        std::int64_t rows);
  // `on_band` is called behind each band.
  void run_bands(const BandedPlan& plan, const RowSource& source, const RowSink& sink,
                 const std::function<void()>& on_band = {},
                 std::vector<NodeTiming>* timings = nullptr);

  // Seconds of one replay by the device's own clock, the mean of `count` in a row: the kernels
  // alone. 0 where no run of these inputs was recorded.
  double replay_seconds(Types inputs, int count);

  const Graph& graph() const { return graph_; }
  const Device& device() const { return device_; }
  const Compiled& compiled() const { return *compiled_; }

 private:
  // All that depends on the input shapes and the piece.
  struct Prepared {
    std::vector<Op> ops;  // by node
    std::vector<TensorType> inputs;
    std::vector<TensorType> types;        // of all values
    std::vector<Step> steps;              // by node
    std::vector<std::size_t> buffer_of;   // value -> index in plan.buffers, or kExternal
    std::vector<std::size_t> scratch_of;  // node -> index in plan.buffers
    Plan plan;
    bool recordable = true;                // no step waits for the host
    int runs = 0;                          // node by node, into the arena that is there now
    std::unique_ptr<Recording> recording;  // of those runs
  };
  // A node's step of a band, which the bands between the ends have in common.
  struct PreparedStep {
    std::vector<TensorType> inputs;
    Op op;
    Step step;
  };
  static constexpr std::size_t kExternal = static_cast<std::size_t>(-1);

  Prepared& prepare(const Graph& piece, Types inputs);
  const Step& prepare(const Node& node, const BandStep& step, Types types);
  Prepared make(const Graph& piece, Types inputs) const;
  void grow_arena(std::size_t bytes);
  std::vector<TensorView> place(const Prepared& prepared, std::span<const TensorView> inputs,
                                std::span<const TensorView> outputs) const;
  void enqueue(const Prepared& prepared, const std::vector<TensorView>& values,
               Stopwatch* stopwatch) const;

  std::shared_ptr<const Compiled> compiled_;
  const Device& device_;  // this and the graph are the Compiled's
  const Graph& graph_;
  std::shared_ptr<Queue> queue_;
  GrowingMemory arena_;
  RecentShapes<Prepared> prepared_;
  std::vector<RecentShapes<PreparedStep>> band_steps_;  // by node
};

}  // namespace tessera
