// What every operator has in common.
//
// An operator is a struct of attributes in kernels/<op>/<op>.h, listed once in kernels/ops/ops.h,
// with these functions found by overload on the struct:
//
//   std::vector<TensorType> infer(const Op&, Types inputs);       output types; throws on bad input
//   std::vector<Parameter> parameters(const Op&, Types inputs);   weights, in operand order
//   Cost cost(const Op&, Types inputs);                           FLOPs and bytes of one run
//   void reference(const Op&, const Operands&);                   the oracle: obvious loops
//   Step cpu(const Op&, const CpuSetup&);                         the CPU's path, cpu/step.h
//   Step cuda(const Op&, const CudaSetup&);                       the GPU's path, cuda/step.h
//
// The oracle accumulates in double, reads any float type and writes f32.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace tessera {

using Types = std::span<const TensorType>;

// One weight tensor of an operator: its name below the node's ("weight", "bias") and its shape in
// the model file, which is PyTorch's.
struct Parameter {
  std::string name;
  Shape shape;
};

// Work of one run, for rooflines: multiply and add count as two operations; bytes are what must
// cross memory once (inputs, weights, outputs).
struct Cost {
  double flops = 0;
  double bytes = 0;
};

// The memory that one run of an operator reads and writes, in the order its header documents.
struct Operands {
  std::span<const TensorView> inputs;
  std::span<const TensorView> weights;
  std::span<const TensorView> outputs;
};

// One operator on one shape, ready to run any number of times on the device that made it. `run`
// gets `scratch_bytes` of 64-byte aligned memory whose content is undefined. Equal operands give
// equal bytes, whatever the number of threads, the batch, and the scratch.
struct Step {
  std::size_t scratch_bytes = 0;
  std::function<void(const Operands&, std::byte* scratch)> run;
};

// Bytes of all inputs, parameters (f32) and outputs: the memory term of a roofline.
template <class Op>
double bytes_moved(const Op& op, Types inputs) {
  double bytes = 0;
  for (const TensorType& t : inputs) bytes += static_cast<double>(t.bytes());
  for (const Parameter& p : parameters(op, inputs))
    bytes += 4.0 * static_cast<double>(p.shape.elements());
  for (const TensorType& t : infer(op, inputs)) bytes += static_cast<double>(t.bytes());
  return bytes;
}

}  // namespace tessera
