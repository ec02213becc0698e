// Dropout in training on the GPU: the mask is the CPU's to the byte, and so is what follows in f32.
#include <cmath>

#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaDropoutTraining = CudaTest;

// Storing rounds once, to 8 (bf16) or 11 (f16) bits; below 2^-14 f16 has steps of 2^-24.
BackwardBounds bounds(DType dtype) {
  if (dtype == DType::kBF16) return {.forward = {0, 0x1p-8}, .input = {0, 0x1p-8}, .weight = {}};
  if (dtype == DType::kF16)
    return {.forward = {0x1p-25, 0x1p-11}, .input = {0x1p-25, 0x1p-11}, .weight = {}};
  return {};
}

TEST_F(CudaDropoutTraining, MatchesTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const std::int64_t count : {1, 3, 4, 5, 7, 8, 15, 2051, 4111}) {
      SCOPED_TRACE(fmt::format("{} x {}", name_of(dtype), count));
      TrainCase<Dropout> c{{0.3}, {random({count}, 1)}, {}};
      c.random = {0x123456789abcdef0, 0xfedcba9876543210};
      check_cuda_backward(c, bounds(dtype), {}, {dtype, dtype});
    }
  }
}

TEST_F(CudaDropoutTraining, KeepsAllOrNothing) {
  for (const double rate : {0.0, 1.0}) {
    TrainCase<Dropout> c{{rate}, {random({3, 37}, 2)}, {}};
    c.random = {7, 8};
    check_cuda_backward(c, {});
    check_cuda_backward(c, bounds(DType::kBF16), {}, {DType::kBF16, DType::kBF16});
  }
}

TEST_F(CudaDropoutTraining, AnotherStreamGivesAnotherMask) {
  const Tensor x = random({999}, 3);
  const auto mask = [&](RandomStream stream) {
    CudaTrainMemory memory{{x}, {}, {Tensor(x.type())}, {Tensor({DType::kU8, {999}})}, stream};
    run_cuda_train([](const CudaSetup& setup) { return cuda_train(Dropout{0.5}, setup); }, memory,
                   {});
    return memory.saved[0];
  };
  const Tensor first = mask({1, 2});
  EXPECT_TRUE(first.same_bytes(mask({1, 2})));
  EXPECT_FALSE(first.same_bytes(mask({1, 3})));
  EXPECT_FALSE(first.same_bytes(mask({2, 2})));
}

// What is dropped is zero, whatever it was.
TEST_F(CudaDropoutTraining, DropsNaN) {
  const Tensor x = Tensor::of({9}, std::vector<float>(9, NAN));
  CudaTrainMemory memory{{x}, {}, {Tensor(x.type())}, {Tensor({DType::kU8, {9}})}, {5, 6}};
  run_cuda_train([](const CudaSetup& setup) { return cuda_train(Dropout{0.5}, setup); }, memory,
                 {});
  const std::vector<float> y = memory.outputs[0].values();
  const auto* mask = memory.saved[0].view().as<std::uint8_t>();
  for (std::size_t i = 0; i < y.size(); ++i)
    EXPECT_TRUE(mask[i] == 1 ? std::isnan(y[i]) : mask[i] == 0 && y[i] == 0) << i;
}

}  // namespace
}  // namespace tessera::test
