// Gradients of a graph's weights: forward run, loss and backward run as one program in one arena.
//
//   Gradients gradients(graph, initial, example, device->queue());
//   gradients.clear();
//   const LossResult result = gradients.add(inputs, {.labels = labels}, {seed, step});
//   for (const Gradients::Weight& weight : gradients.weights()) ...   // the optimiser's work
//
// The graph is one for training (engine/passes/passes.h): its only output are the logits. Values
// that a backward step reads stay in the arena until then, all others make room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device/queue.h"
#include "engine/graph/graph.h"
#include "engine/run/compiled.h"
#include "engine/run/plan.h"
#include "engine/run/recent_shapes.h"
#include "engine/train/float_tensor.h"
#include "kernels/train/backward.h"

namespace tessera {

// What the logits of a batch are held against, in host memory.
struct LossTarget {
  Loss loss = {};
  TensorView labels;  // as LossOperands has them, weights too
  const float* weights = nullptr;
  const float* class_weights = nullptr;
};

// What the backward run of a graph reaches, by index: values that a trained weight lies before, and
// nodes that one lies before or in.
struct GradientNeeds {
  std::vector<bool> values, nodes;
};

// Throws Error naming the nodes behind trained weights that have no backward run, and where there
// are no weights to train. `example` as below.
void require_trainable(const Graph& graph, Types example);

class Gradients {
 public:
  // One tensor of the model in the device's memory: f32 in PyTorch's layout, named as in the model
  // file.
  struct Weight {
    std::string name;
    TensorView value;
    TensorView gradient;     // its pointer is null where `trained` is false
    bool trained = true;     // false: running statistics, and what is frozen
    bool statistic = false;  // the forward run updates it
    double share = 1;        // of a batch norm's running statistic, what a forward run leaves of it
  };

  // Copies every weight of `graph` from `initial`; those in `frozen` get no gradient. `example` are
  // input types of any size that runs. With `recompute` the nodes are cut into about sqrt(nodes)
  // segments, and what does not leave a segment is computed again in the backward run instead of
  // being kept (Chen et al. 2016, "Training deep nets with sublinear memory cost"): about a third
  // more work, and less memory.
  Gradients(const Graph& graph, const WeightSource& initial, Types example,
            std::shared_ptr<Queue> queue, const std::vector<std::string>& frozen = {},
            bool recompute = false);

  const std::vector<Weight>& weights() const { return weights_; }
  // All gradients as one tensor, with zeros between them.
  TensorView all_gradients() const {
    const auto floats = static_cast<std::int64_t>(gradient_bytes_ / sizeof(float));
    return {gradient_memory_->get(), {DType::kF32, {floats}}};
  }
  // Copies of all weights in host memory, and the way back.
  FloatTensors values() const;
  void set_values(const TensorViews& values);

  // The memory plan for these inputs: arena and peak, before anything runs. On a GPU the arena
  // holds the inputs too.
  const Plan& plan(Types inputs) { return prepare(inputs).plan; }

  // Sets all gradients to zero.
  void clear();

  // Runs forward, the loss, and backward; adds to the gradients. Inputs lie in host memory.
  // `random` draws the run's dropout. Throws Error that names the node whose output first is not
  // finite where the loss is not.
  LossResult add(std::span<const TensorView> inputs, const LossTarget& target, RandomStream random);

  const Graph& graph() const { return graph_; }
  const Device& device() const { return queue_->device(); }
  Queue& queue() const { return *queue_; }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  enum class Kind : std::uint8_t { kForward, kLoss, kBackward };

  // One step of the program. Buffers are indices into the plan's; kNone is no memory: an input of
  // the graph, a value that is not kept, or a gradient that nobody wants.
  struct Action {
    Kind kind = Kind::kForward;
    std::size_t node = 0;
    bool again = false;  // a forward step computed once more
    std::vector<std::size_t> inputs, outputs, saved;
    std::vector<std::size_t> output_gradients;
    std::vector<std::size_t> input_gradients;
    std::vector<std::size_t> sums;  // what each input gradient is added to; kNone: it is the first
    std::size_t scratch = kNone;
  };

  struct Prepared {
    std::vector<TensorType> inputs;
    std::vector<TensorType> types;  // of all values
    std::vector<TrainStep> forward;
    std::vector<BackwardStep> backward;
    std::vector<Saved> saved;
    std::vector<std::size_t> input_buffers;  // of the graph's inputs, on a GPU
    std::vector<Action> program;
    Plan plan;
  };
  class Program;  // writes one

  Prepared& prepare(Types inputs);
  Prepared make(Types inputs) const;
  std::byte* memory(const Prepared& prepared, std::size_t buffer) const;  // null for kNone
  std::vector<TensorView> values(const Prepared& prepared, const std::vector<ValueId>& ids,
                                 const std::vector<std::size_t>& buffers,
                                 std::span<const TensorView> inputs) const;
  std::vector<TensorView> weights_of(std::size_t node, bool gradients) const;
  void upload_inputs(const Prepared& prepared, std::span<const TensorView> inputs) const;
  LossResult run_loss(const Prepared& prepared, const Action& action, const LossTarget& target);
  void forward(const Prepared& prepared, const Action& action, std::span<const TensorView> inputs,
               RandomStream random) const;
  void backward(const Prepared& prepared, const Action& action,
                std::span<const TensorView> inputs) const;
  bool is_finite(const TensorView& view) const;
  // The node whose output first is not finite, found by a run that looks at each.
  [[noreturn]] void report_not_finite(const Prepared& prepared, std::span<const TensorView> inputs,
                                      RandomStream random) const;

  std::shared_ptr<Queue> queue_;
  Graph graph_;
  bool recompute_;
  GradientNeeds needs_;
  std::vector<Weight> weights_;
  std::vector<std::vector<std::size_t>> weight_indices_;  // by node
  std::unique_ptr<DeviceMemory> value_memory_, gradient_memory_;
  std::size_t gradient_bytes_ = 0;
  std::unique_ptr<DeviceMemory> discarded_;  // running statistics of a recomputed run
  RecentShapes<Prepared> prepared_;
  GrowingMemory arena_, loss_memory_;
};

}  // namespace tessera
