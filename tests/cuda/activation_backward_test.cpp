// Backward of element-wise activations on the GPU.
#include <cmath>

#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaActivationBackward = CudaTest;

constexpr Activation kRelu{Activation::Kind::kRelu};
constexpr Activation kSigmoid{Activation::Kind::kSigmoid};
constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

// Forward: a sigmoid within 4 ULP of 2^-23 (activation_test.cpp). Backward from the same y: 1 - y
// and two products round to 2^-24 each. Storing adds one rounding to 8 (bf16) or 11 (f16) bits;
// below 2^-14 f16 has steps of 2^-24.
BackwardBounds sigmoid_bounds(DType dtype) {
  const double rounding = dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0;
  const double least = dtype == DType::kF16 ? 0x1p-24 : 0x1p-126;
  return {.forward = {least, 4 * 0x1p-23 + rounding},
          .input = {least, 4 * 0x1p-24 + rounding},
          .weight = {}};
}

TEST_F(CudaActivationBackward, MatchesTheReferenceAtEveryTail) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t count : {1, 3, 4, 7, 8, 9, 256, 2047, 2049}) {
      SCOPED_TRACE(fmt::format("{} x {}", name_of(dtype), count));
      const Tensor x = random({count}, 1, 3);
      check_cuda_backward(TrainCase<Activation>{kRelu, {x}, {}}, {}, {}, {dtype, dtype});
      check_cuda_backward(TrainCase<Activation>{kSigmoid, {x}, {}}, sigmoid_bounds(dtype), {},
                          {dtype, dtype});
    }
  }
}

TEST_F(CudaActivationBackward, ReluStopsZerosAndLetsNaNThrough) {
  CudaBackwardMemory memory;
  memory.input_types = memory.output_types = {{DType::kF32, {5}}};
  memory.inputs = {Tensor()};
  memory.outputs = {Tensor::of({5}, {0, -0.0f, NAN, 1, INFINITY})};
  memory.output_gradients = {Tensor::of({5}, {1, NAN, 3, 4, 5})};
  memory.input_gradients = {Tensor({DType::kF32, {5}})};
  run_cuda_backward([](const CudaSetup& setup) { return cuda_backward(kRelu, setup); }, memory, {});
  EXPECT_EQ(memory.input_gradients[0].values(), (std::vector<float>{0, 0, 3, 4, 5}));
}

}  // namespace
}  // namespace tessera::test
