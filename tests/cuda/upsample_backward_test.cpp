// Backward of bilinear up-sampling on the GPU.
#include <gmock/gmock.h>

#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaUpsampleBackward = CudaTest;

// Forward: as in upsample_test.cpp. Backward: the weights of an axis add up to at most 4e / (2e -
// 1), which is below 3, so all 16 products to at most 9 m for gradients within m. A weight errs by
// two roundings, each of the eight multiply-adds that a product passes by one: below 9 m (4 + 8)
// 2^-24. Storing adds one rounding to 8 (bf16) or 11 (f16) bits; below 2^-14 f16 has steps of
// 2^-24.
BackwardBounds bounds(DType dtype) {
  constexpr double kLargest = 6;  // of the normal values here
  const double rounding = dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0;
  const double step = dtype == DType::kF16 ? 0x1p-25 : 0;
  return {.forward = {16 * kLargest * 0x1p-24 + step, rounding},
          .input = {9 * kLargest * 12 * 0x1p-24 + step, rounding},
          .weight = {}};
}

TEST_F(CudaUpsampleBackward, MatchesTheReferenceAtEveryChannelTailAndSize) {
  for (const bool align_corners : {false, true}) {
    for (const std::int64_t c : {1, 3, 4, 8, 9}) {
      for (const auto& [h, w] : {std::pair{1, 1}, {1, 4}, {2, 1}, {5, 6}}) {
        SCOPED_TRACE(fmt::format("{} x {} x {}, {}", h, w, c, align_corners));
        const TrainCase<Upsample> upsample{{align_corners}, {random({2, h, w, c}, 5)}, {}};
        for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
          check_cuda_backward(upsample, bounds(dtype), {}, {dtype, dtype});
      }
    }
  }
}

TEST_F(CudaUpsampleBackward, KeepsCoordinatesExactOnLongAxes) {
  for (const bool align_corners : {false, true}) {
    check_cuda_backward(TrainCase<Upsample>{{align_corners}, {random({1, 1, 1501, 1}, 8)}, {}},
                        bounds(DType::kF32));
    check_cuda_backward(TrainCase<Upsample>{{align_corners}, {random({1, 151, 1, 1}, 8)}, {}},
                        bounds(DType::kF32));
  }
}

// A gradient of ones adds up to the weights with which an input was read.
TEST_F(CudaUpsampleBackward, GivesTheTextbookValues) {
  const auto run = [&](bool align_corners) {
    CudaBackwardMemory memory;
    memory.input_types = {{DType::kF32, {1, 1, 3, 1}}};
    memory.output_types = {{DType::kF32, {1, 2, 6, 1}}};
    memory.inputs = {Tensor()};
    memory.outputs = {Tensor()};
    memory.output_gradients = {Tensor::of({1, 2, 6, 1}, std::vector<float>(12, 1))};
    memory.input_gradients = {Tensor(memory.input_types[0])};
    run_cuda_backward(
        [&](const CudaSetup& setup) { return cuda_backward(Upsample{align_corners}, setup); },
        memory, {});
    return memory.input_gradients[0].values();
  };
  using testing::ElementsAre;
  using testing::FloatNear;
  EXPECT_THAT(run(false), ElementsAre(4, 4, 4));
  // Outputs at 0, 0.4, 0.8, 1.2, 1.6, 2: input 0 is read with 1 + 0.6 + 0.2, input 1 with 0.4 + 0.8
  // + 0.8 + 0.4; both rows read the one row.
  const auto near = [](float value) { return FloatNear(value, 0x1p-20f); };
  EXPECT_THAT(run(true), ElementsAre(near(3.6f), near(4.8f), near(3.6f)));
}

}  // namespace
}  // namespace tessera::test
