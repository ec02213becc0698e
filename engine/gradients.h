// Gradients of a graph's weights: forward run, loss and backward run as one program in one arena.
//
//   Gradients gradients(graph, initial, example, threads);
//   gradients.clear();
//   const double loss = gradients.add(inputs, loss_of_logits, {seed, step});
//   for (Gradients::Weight& weight : gradients.weights()) ...   // the optimiser's work
//
// The graph is one for training (engine/passes.h): its only output are the logits. Values that a
// backward step reads stay in the arena until then, all others make room.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/executor.h"
#include "engine/graph.h"
#include "engine/plan.h"
#include "engine/recent_shapes.h"
#include "kernels/backward.h"

namespace tessera {

class Gradients {
 public:
  // One tensor of the model: f32 in PyTorch's layout, named as in the model file.
  struct Weight {
    std::string name;
    Shape shape;
    std::vector<float> value;
    std::vector<float> gradient;  // empty where `trained` is false
    bool trained = true;          // false: running statistics, and what is frozen
  };

  // The loss of a batch of logits, and its gradient with respect to them, which it writes.
  using Loss = std::function<double(const TensorView& logits, const TensorView& gradient)>;

  // Copies every weight of `graph` from `initial`; those in `frozen` get no gradient. `example` are
  // input types of any size that runs. With `recompute` the nodes are cut into about sqrt(nodes)
  // segments, and what does not leave a segment is computed again in the backward run instead of
  // being kept (Chen et al. 2016, "Training deep nets with sublinear memory cost"): about a third
  // more work, and less memory.
  Gradients(Graph graph, const WeightSource& initial, Types example, int threads,
            const std::vector<std::string>& frozen = {}, bool recompute = false);

  std::vector<Weight>& weights() { return weights_; }
  const std::vector<Weight>& weights() const { return weights_; }

  // The memory plan for these inputs: arena and peak, before anything runs.
  const Plan& plan(Types inputs) { return prepare(inputs).plan; }

  // Sets all gradients to zero.
  void clear();

  // Runs forward, the loss, and backward; adds to the gradients and returns the loss. `random`
  // draws the run's dropout. Throws Error that names the node whose output first is not finite
  // where the loss is not.
  double add(std::span<const TensorView> inputs, const Loss& loss, RandomStream random);

  const Graph& graph() const { return graph_; }

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
    std::vector<Action> program;
    Plan plan;
  };
  class Program;  // writes one

  Prepared& prepare(Types inputs);
  Prepared make(Types inputs) const;
  std::byte* memory(const Prepared& prepared, std::size_t buffer) const;
  std::vector<TensorView> values(const Prepared& prepared, const std::vector<ValueId>& ids,
                                 const std::vector<std::size_t>& buffers,
                                 std::span<const TensorView> inputs) const;
  std::vector<TensorView> weights_of(std::size_t node, bool gradients) const;
  void forward(const Prepared& prepared, const Action& action, std::span<const TensorView> inputs,
               RandomStream random) const;
  void backward(const Prepared& prepared, const Action& action,
                std::span<const TensorView> inputs) const;
  // The node whose output first is not finite, found by a run that looks at each.
  [[noreturn]] void report_not_finite(const Prepared& prepared, std::span<const TensorView> inputs,
                                      RandomStream random) const;

  Graph graph_;
  int threads_;
  bool recompute_;
  std::vector<Weight> weights_;
  std::vector<std::vector<std::size_t>> weight_indices_;  // by node
  RecentShapes<Prepared> prepared_;
  AlignedBuffer arena_;
};

}  // namespace tessera
