// Holds an operator's CUDA path against its reference, on a GPU or, where the program is linked
// with it, under the emulator (tests/simt/emulator).
#pragma once

#include "kernels/cuda/paths.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

// Tests of this fixture are skipped, with the reason, where no GPU can be had.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override;
};

// What a run may depend on besides its operands.
struct CudaRun {
  Precision math = Precision::kFp32;
  int capability = 0;  // choose kernels as for this one; 0: the device's own
};

// Of this GPU, with the capability that `run` asks for.
CudaTraits traits_of(const CudaRun& run);

// Outputs of the step that `make` gives: NaN before; once into memory of exactly the operands'
// sizes (so that the emulator sees any byte beside them touched), once between guard bands; both
// must give the same bytes, and leave inputs and weights as they were.
std::vector<Tensor> run_cuda_step(const std::function<Step(const CudaSetup&)>& make,
                                  const std::vector<TensorType>& output_types,
                                  const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& weights, const CudaRun& run);

template <class Op>
std::vector<Tensor> run_cuda(const Op& op, const std::vector<Tensor>& inputs,
                             const std::vector<Tensor>& weights, const CudaRun& run = {}) {
  const auto make = [&](const CudaSetup& setup) { return cuda(op, setup); };
  return run_cuda_step(make, infer(op, types(inputs)), inputs, weights, run);
}

// The CUDA path is within `bound` of the reference.
template <class Op>
void check_cuda(const Op& op, const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights,
                Bound bound, const CudaRun& run = {}) {
  const std::vector<Tensor> expected = run_reference(op, inputs, weights);
  expect_close(run_cuda(op, inputs, weights, run), expected, bound, "output");
}

// Rows [begin, end) of axis 0.
Tensor rows_of(const Tensor& tensor, std::int64_t begin, std::int64_t end);

// Row i of a batch gives the same bytes as a batch of that row alone, for every i.
template <class Op>
void check_cuda_batch(const Op& op, const std::vector<Tensor>& inputs,
                      const std::vector<Tensor>& weights, const CudaRun& run = {}) {
  const std::vector<Tensor> all = run_cuda(op, inputs, weights, run);
  for (std::int64_t row = 0; row < inputs[0].type().shape[0]; ++row) {
    std::vector<Tensor> one;
    for (const Tensor& input : inputs) one.push_back(rows_of(input, row, row + 1));
    const std::vector<Tensor> alone = run_cuda(op, one, weights, run);
    for (std::size_t i = 0; i < all.size(); ++i)
      EXPECT_TRUE(rows_of(all[i], row, row + 1).same_bytes(alone[i]))
          << "row " << row << " differs from itself in a batch, output " << i;
  }
}

}  // namespace tessera::test
