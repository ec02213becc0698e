// Training on a GPU: what an operator adds to its CUDA path (step.h), found by overload.
//
//   TrainStep cuda_train(const Op&, const CudaSetup&);         the forward run
//   BackwardStep cuda_backward(const Op&, const CudaSetup&);   the backward run
//
// kernels/<op>/backward.h declares them; train/cuda.{h,cu,cpp} beside it hold them, divided as
// step.h says. Both enqueue their work on the setup's stream; all operands and the scratch are
// device memory, the scratch aligned to 64 bytes. `CudaSetup::weights` is empty: weights are f32
// operands of each run, because the optimiser changes them in between.
//
// Images and their maps are f32, bf16 or f16, and the gradient of a value has the value's type;
// tensors of documents, weights, their gradients and saved extras are f32 (Saved says what else).
// Sums are f32. Equal operands give equal bytes: no atomics on floats, and sums that many blocks
// share are added in a fixed order.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/paths.h"
#include "kernels/precision.h"
#include "kernels/train/backward.h"

namespace tessera {

template <class Op>
[[noreturn]] void refuse_training() {
  fail("{}: a GPU does not train it; train on the CPU with --device cpu", Op::kName);
}

// The inference step, of an operator without weights: one with them would need theirs in each run.
template <class Op>
TrainStep cuda_train(const Op& op, const CudaSetup& setup) {
  if constexpr (requires { cuda(op, setup); }) {
    if (!parameters(op, setup.inputs).empty()) refuse_training<Op>();
    const Step step = cuda(op, setup);
    if (!step.run) refuse_training<Op>();  // the host's at inference
    return {step.scratch_bytes, [step](const TrainOperands& operands, std::byte* scratch) {
              step.run({operands.inputs, {}, operands.outputs}, scratch);
            }};
  } else {
    refuse_training<Op>();
  }
}

// Of an operator that has none.
template <class Op>
BackwardStep cuda_backward(const Op&, const CudaSetup&) {
  refuse_training<Op>();
}

// Where each element of a packed weight comes from: an index into the weight as the model file has
// it, or kPackZero.
using PackOrder = std::vector<std::int32_t>;
inline constexpr std::int32_t kPackZero = -1;

// The order on the device, made once per node and `name`.
std::shared_ptr<const DeviceBuffer> pack_order(const CudaSetup& setup, const std::string& name,
                                               const std::function<PackOrder()>& make);

// Scratch is cut into parts that begin at multiples of this.
constexpr std::size_t in_whole_parts(std::size_t bytes) {
  constexpr std::size_t kPart = 256;
  return (bytes + kPart - 1) / kPart * kPart;
}

}  // namespace tessera
