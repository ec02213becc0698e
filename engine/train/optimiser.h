// What turns gradients into new weights: SGD, Adam and AdamW over a list of f32 tensors.
//
//   Optimiser optimiser({.kind = Optimiser::Kind::kAdam}, trained_parameters(graph, inputs),
//   device); const double norm = optimiser.step(weights, gradients, rate * rate_factor(schedule,
//   step));
//
// The arithmetic is that of torch.optim (formulas below); the golden tests hold it against PyTorch.
// g is the gradient, scaled where it is clipped, w a weight, r the learning rate, t = 1, 2, ...:
//
//   kSgd     g += d w;  v = m v + g (v = 0 at first);  w -= r v, Nesterov: w -= r (g + m v)
//            (Sutskever et al. 2013; momentum m without dampening)
//   kAdam    g += d w;  a = b1 a + (1 - b1) g;  s = b2 s + (1 - b2) g^2;
//            w -= r / (1 - b1^t) a / (sqrt(s / (1 - b2^t)) + eps)         (Kingma & Ba 2015)
//   kAdamW   w -= r d w, then as kAdam with the plain g                   (Loshchilov & Hutter
//   2019)
//
// d is `weight_decay`, for the first two an L2 penalty of d / 2 |w|^2.
//
// Deterministic: equal calls give equal bytes for any number of threads, and of ranks, of which
// each keeps the state of its share of the elements alone (engine/train/sharing.h); sums too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/device/queue.h"
#include "engine/graph/graph.h"
#include "engine/train/float_tensor.h"
#include "engine/train/sharing.h"

namespace tessera {

// One tensor, and what its group says about it.
struct TrainedParameter {
  std::string name;
  Shape shape;
  bool decays = true;     // weight_decay applies
  bool frozen = false;    // stays as it is; its gradient is not read
  double rate_scale = 1;  // times the learning rate
};

// The weights of a graph in the order of its nodes, each tensor once. Biases, the weights of norms
// and attention's context vectors do not decay; running statistics are frozen, as no gradient
// trains them. Tensors whose names begin with one of `frozen` are frozen too ("embedding/").
std::vector<TrainedParameter> trained_parameters(const Graph& graph, Types inputs,
                                                 std::span<const std::string> frozen = {});

class Optimiser {
 public:
  enum class Kind : std::uint8_t { kSgd, kAdam, kAdamW };

  struct Config {
    Kind kind = Kind::kAdam;
    double momentum = 0;  // kSgd: m; the U-Net paper's is 0.99
    bool nesterov = false;
    double beta1 = 0.9;  // kAdam, kAdamW
    double beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 0;  // d
    // Gradients whose norm, over all that are trained, is greater are scaled down to it (Pascanu et
    // al. 2013; by clip_norm / (norm + 1e-6) as PyTorch does). 0: never.
    double clip_norm = 0;

    bool operator==(const Config&) const = default;
  };

  // Throws Error for values out of their range or a tensor named twice. `transport` is of the ranks
  // that share the parameters, and of their queue; null: this process alone.
  Optimiser(const Config& config, std::vector<TrainedParameter> parameters,
            std::shared_ptr<Queue> queue, std::shared_ptr<Transport> transport = nullptr);

  // Of the parameters' elements, those of frozen ones left out.
  Sharing& sharing() { return sharing_; }

  // One step of all ranks, whose `gradients` need the rank's share alone; all get the new weights.
  // `weights` (written) and `gradients` (read) are f32 of the parameters' shapes, in their order
  // and in the device's memory; a frozen one may have a null gradient. `rate` is r.
  // `gradient_scale` multiplies every gradient first: 1 / k where k micro-batches were summed.
  // Returns the norm of the scaled gradients before clipping. Throws Error naming the tensor,
  // before anything is changed, where a gradient is not finite or of another type.
  double step(std::span<const TensorView> weights, std::span<const TensorView> gradients,
              double rate, double gradient_scale = 1);

  std::int64_t steps() const { return steps_; }
  const Config& config() const { return config_; }
  const std::vector<TrainedParameter>& parameters() const { return parameters_; }

  // All there is to save besides steps(): "momentum/<name>", or "mean/<name>" and "square/<name>";
  // copies in host memory. All ranks call it; the first one gets all shares, the others nothing.
  FloatTensors state() const;
  // What it has, without values.
  TensorViews state_types() const;
  std::uint64_t state_bytes() const;      // of all ranks
  std::uint64_t own_state_bytes() const;  // of this one
  // Goes on from a saved state of all ranks, in host memory, of which it takes its share. Throws
  // Error naming the tensor that is missing, left over or of another type; the optimiser is then
  // unchanged.
  void restore(const TensorViews& state, std::int64_t steps);

 private:
  // A number for each element, such as Adam's mean.
  struct Part {
    std::string prefix;  // of its names
    Stretches own = {};  // this rank's, by its pieces
  };

  void require_operands(std::span<const TensorView> weights,
                        std::span<const TensorView> gradients) const;
  // The sum of squares of each parameter's gradient.
  std::vector<double> squares(std::span<const OptimiserTensor> own);

  Config config_;
  std::vector<TrainedParameter> parameters_;
  std::shared_ptr<Queue> queue_;
  Sharing sharing_;
  std::unique_ptr<Updates> updates_;
  std::unique_ptr<DeviceMemory> memory_;
  std::vector<Part> parts_;  // SGD: momentum or nothing; Adam: mean and square
  std::int64_t steps_ = 0;
};

}  // namespace tessera
