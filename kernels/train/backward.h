// Training: what an operator adds to its inference contract (kernels/operator.h), found by overload
// on its struct as the rest is. All tensors are f32 unless an operator's header says otherwise.
//
//   Saved saved_for_backward(const Op&, Types inputs);             what the backward run reads
//   void train_reference(const Op&, const TrainOperands&);         the oracle's forward run
//   TrainStep cpu_train(const Op&, const CpuSetup&);               the CPU's forward run
//   void backward_reference(const Op&, const BackwardOperands&);   the oracle: obvious loops
//   BackwardStep cpu_backward(const Op&, const CpuSetup&);         the CPU's backward run
//   TrainStep cuda_train(const Op&, const CudaSetup&);             the GPU's, cuda/training.h
//   BackwardStep cuda_backward(const Op&, const CudaSetup&);
//
// kernels/<op>/backward.h declares them; kernels/train/ops.h includes all of them. Operators that
// compute in training what they compute at inference take train_reference and cpu_train from here.
//
// Gradients of weights are ADDED to what their memory holds; those of inputs are written over it.
// A weight gathers gradients from micro-batches and from all nodes that share it: with addition as
// the only mode both are the same call, and one clearing per optimiser step is cheap beside the
// runs between. An input gradient is as large as its activation and mostly has one reader: clearing
// and reading it back would cost two more passes over memory for each. Where several nodes read one
// value, each writes a buffer of its own and `add_gradients` sums them in a fixed order.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/paths.h"
#include "kernels/operator.h"

namespace tessera {

struct CudaSetup;

// What must still be there when the backward run of a node begins; the planner keeps just that.
// An activation of an input or output that is not listed may have gone: its view keeps the type,
// its pointer may be null.
struct Saved {
  std::vector<bool> inputs;       // by index: values that the forward run read
  std::vector<bool> outputs;      // by index: values that it wrote
  std::vector<TensorType> extra;  // further tensors, which the training run writes
};

// Random numbers of one run: Philox's key and the upper half of its counter. The trainer gives each
// run of each node a stream of its own; equal ones give equal numbers, on any number of threads.
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

// The memory of one forward run in training.
struct TrainOperands {
  std::span<const TensorView> inputs;
  std::span<const TensorView> weights;  // running statistics among them are updated
  std::span<const TensorView> outputs;  // written
  std::span<const TensorView> saved;    // Saved::extra, written
  RandomStream random = {};
};

// The memory of one backward run.
struct BackwardOperands {
  std::span<const TensorView> inputs;            // as the forward run had them
  std::span<const TensorView> weights;           // as the forward run had them
  std::span<const TensorView> outputs;           // as the forward run left them
  std::span<const TensorView> saved;             // Saved::extra, as the training run left them
  std::span<const TensorView> output_gradients;  // of the outputs' shapes; where there are several,
                                                 // a null pointer stands for zeros
  std::span<const TensorView> input_gradients;  // of the inputs' shapes, written; a null pointer is
                                                // not computed (integer inputs never are)
  std::span<const TensorView> weight_gradients;  // of the parameters' shapes, added to; a null
                                                 // pointer is not computed
};

// One operator on one shape, ready to run any number of times; `scratch` as for Step. Weights are
// read anew in every run, because the optimiser changes them in between. Equal operands give equal
// bytes, whatever the number of threads.
struct TrainStep {
  std::size_t scratch_bytes = 0;
  std::function<void(const TrainOperands&, std::byte* scratch)> run;
};
struct BackwardStep {
  std::size_t scratch_bytes = 0;
  std::function<void(const BackwardOperands&, std::byte* scratch)> run;
};

// The view of a gradient that is asked for, or null.
inline const TensorView* wanted(std::span<const TensorView> gradients, std::size_t i) {
  return i < gradients.size() && gradients[i].pointer != nullptr ? &gradients[i] : nullptr;
}

template <class Op>
void train_reference(const Op& op, const TrainOperands& operands) {
  reference(op, {operands.inputs, operands.weights, operands.outputs});
}

// The inference step made anew in each run, which packs the weights of the moment into the scratch.
// Making one costs what packing costs: a plan is a handful of numbers.
template <class Op>
TrainStep cpu_train(const Op& op, const CpuSetup& setup) {
  PackedWeights first;
  CpuSetup probe = setup;
  probe.packed = &first;
  const std::size_t step_bytes = (host_step(op, probe).scratch_bytes + 63) / 64 * 64;
  const std::vector<TensorType> inputs(setup.inputs.begin(), setup.inputs.end());
  return {step_bytes + first.packed_scratch(),
          [op, inputs, step_bytes, name = setup.name, threads = setup.threads](
              const TrainOperands& operands, std::byte* scratch) {
            PackedWeights packed(scratch + step_bytes);
            const Step step = host_step(op, {name, inputs, operands.weights, threads, &packed});
            step.run({operands.inputs, operands.weights, operands.outputs}, scratch);
          }};
}

// sum += term, both f32 of one shape.
void add_gradients(const TensorView& sum, const TensorView& term, int threads);

}  // namespace tessera
