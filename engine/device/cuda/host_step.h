// A step that the host computes for a GPU: what an operator runs on that has no kernel, or none for
// its attributes.
#pragma once

#include "kernels/cpu/paths.h"
#include "kernels/cuda/paths.h"

namespace tessera {

// Operands of a GPU's stream for a step of the host: they are copied down (f16 and bf16 are widened
// to f32, so `host` was made for `wide_inputs`), and what it makes is rounded to `outputs` and
// copied up. `host_outputs` are the types that it makes. It waits for the stream.
Step copied_step(Step host, std::vector<TensorType> inputs, std::vector<TensorType> host_outputs,
                 std::vector<TensorType> outputs, std::span<const TensorView> weights,
                 CudaStream stream);
std::vector<TensorType> wide_inputs(Types inputs);

// `packed`, which keeps the weights in the order of the host's kernels, outlives the step.
template <class Op>
Step step_on_host(const Op& op, const CudaSetup& setup, int threads, PackedWeights& packed) {
  const std::vector<TensorType> wide = wide_inputs(setup.inputs);
  std::vector<TensorType> made = infer(op, wide);
  Step host = host_step(op, {setup.name, wide, setup.weights, threads, &packed});
  return copied_step(std::move(host), {setup.inputs.begin(), setup.inputs.end()}, std::move(made),
                     infer(op, setup.inputs), setup.weights, setup.stream);
}

}  // namespace tessera
