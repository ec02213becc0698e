// Holds an operator's training and backward runs on a GPU, or under the emulator, against its
// reference.
#pragma once

#include "kernels/cuda/training.h"
#include "tests/support/backward_check.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {

// What a run gets and gives, in host memory; the views given to a step are of the device.
struct CudaTrainMemory {
  std::vector<Tensor> inputs, weights, outputs, saved;
  RandomStream random;
};

// Runs the step that `make` gives, once into memory of exactly the operands' sizes and once between
// guard bands; both must give the same bytes and leave the inputs as they were. Outputs and saved
// tensors are NaN before. Replaces `memory`'s outputs, saved tensors and weights by what it left.
void run_cuda_train(const std::function<TrainStep(const CudaSetup&)>& make, CudaTrainMemory& memory,
                    const CudaRun& run);

// The same for a backward run; tensors of rank 0 stand for null pointers. Input gradients are NaN
// before, weight gradients what they are.
struct CudaBackwardMemory {
  std::vector<TensorType> input_types;  // of the node, also where `inputs` has a null pointer
  std::vector<TensorType> output_types;
  std::vector<Tensor> inputs, weights, outputs, saved, output_gradients;
  std::vector<Tensor> input_gradients, weight_gradients;  // replaced by what the run left
};
void run_cuda_backward(const std::function<BackwardStep(const CudaSetup&)>& make,
                       CudaBackwardMemory& memory, const CudaRun& run);

// `op` as it computes on maps of this type.
template <class Op>
Op with_storage(Op op, DType storage) {
  if constexpr (requires { op.dtype; }) op.dtype = storage;
  return op;
}

inline Tensor stored(const Tensor& tensor, DType storage) {
  return tensor.type().dtype == DType::kF32 ? tensor.rounded_to(storage) : tensor.copy();
}
inline std::vector<Tensor> stored(const std::vector<Tensor>& tensors, DType storage) {
  std::vector<Tensor> list;
  for (const Tensor& tensor : tensors) list.push_back(stored(tensor, storage));
  return list;
}
inline Tensor as_f32(const Tensor& tensor) {
  const DType dtype = tensor.type().dtype;
  return dtype == DType::kBF16 || dtype == DType::kF16 ? tensor.rounded_to(DType::kF32)
                                                       : tensor.copy();
}

// How the values of a case lie in the device's memory: those that the node reads, those it writes.
struct Storage {
  DType x = DType::kF32, y = DType::kF32;
};

// The whole check. Values and gradients are rounded to their storage first, and the reference reads
// what that leaves; `bounds` must allow for the rounding of results.
template <class Op>
void check_cuda_backward(TrainCase<Op> c, const BackwardBounds& bounds, const CudaRun& run = {},
                         Storage storage = {}) {
  const Op op = with_storage(c.op, storage.y);
  const std::vector<Tensor> inputs = stored(c.inputs, storage.x);
  const std::vector<Tensor> output_gradients = stored(output_gradients_of(c), storage.y);
  c.inputs.clear();
  for (const Tensor& input : inputs) c.inputs.push_back(as_f32(input));
  c.output_gradients.clear();
  for (const Tensor& gradient : output_gradients) c.output_gradients.push_back(as_f32(gradient));

  // Forward.
  TrainResult expected = train_by_reference(c);
  CudaTrainMemory forward{inputs, copies(c.weights), {}, {}, c.random};
  const std::vector<TensorType> output_types = infer(op, types(inputs));
  for (const TensorType& type : output_types) forward.outputs.emplace_back(type);
  for (const Tensor& extra : expected.saved) forward.saved.emplace_back(extra.type());
  run_cuda_train([&](const CudaSetup& setup) { return cuda_train(op, setup); }, forward, run);
  expect_forward_close(forward, expected, bounds.forward);

  // Backward, from what the reference's forward run left.
  CudaBackwardMemory backward;
  backward.input_types = types(inputs);
  backward.output_types = output_types;
  const Saved kept = saved_for_backward(op, backward.input_types);
  for (std::size_t i = 0; i < output_types.size(); ++i) {
    const Tensor output = output_types[i].dtype == storage.y
                              ? stored(expected.outputs[i], storage.y)
                              : expected.outputs[i].copy();
    expected.outputs[i] = as_f32(output);
    backward.outputs.push_back(kept.outputs[i] ? output : Tensor());
  }
  const Gradients reference = backward_by_reference(c, expected, false);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool is_float = inputs[i].type().dtype == storage.x;
    backward.inputs.push_back(kept.inputs[i] ? inputs[i] : Tensor());
    backward.input_gradients.push_back(is_float ? Tensor(inputs[i].type()) : Tensor());
  }
  backward.weights = copies(c.weights);
  backward.saved = expected.saved;
  backward.output_gradients = output_gradients;
  const std::vector<Tensor> earlier = earlier_gradients(c, false);
  for (std::size_t i = 0; i < c.weights.size(); ++i)
    backward.weight_gradients.push_back(has_gradient(c, i) ? earlier[i].copy() : Tensor());
  CudaBackwardMemory none = backward;
  const auto make = [&](const CudaSetup& setup) { return cuda_backward(op, setup); };
  run_cuda_backward(make, backward, run);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (backward.input_gradients[i].type().shape.rank() == 0) continue;
    SCOPED_TRACE("gradient of input " + std::to_string(i));
    expect_close(backward.input_gradients[i], reference.inputs[i], bounds.input);
  }
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    if (!has_gradient(c, i)) continue;
    SCOPED_TRACE("gradient of weight " + std::to_string(i));
    expect_close(backward.weight_gradients[i], reference.weights[i], bounds.weight);
  }

  // Gradients that nobody wants have no memory; the others do not change by it.
  for (const bool of_inputs : {true, false}) {
    CudaBackwardMemory half = none;
    std::vector<Tensor>& without = of_inputs ? half.weight_gradients : half.input_gradients;
    for (Tensor& tensor : without) tensor = Tensor();
    run_cuda_backward(make, half, run);
    const auto& got = of_inputs ? half.input_gradients : half.weight_gradients;
    const auto& want = of_inputs ? backward.input_gradients : backward.weight_gradients;
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(want[i].type().shape.rank() == 0 || got[i].same_bytes(want[i]))
          << (of_inputs ? "input" : "weight") << " gradient " << i << " depends on the others";
  }
}

}  // namespace tessera::test
