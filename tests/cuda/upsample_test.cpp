// Bilinear up-sampling on the GPU.
#include "kernels/ops/upsample/upsample.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaUpsample = CudaTest;

// Three interpolations a + t (b - a) in sequence, two deep: each rounds t, b - a and the sum, whose
// magnitudes are at most 2 m for values within m. The second inherits the first's error: below
// 16 m 2^-24. Storing adds one rounding to 8 (bf16) or 11 (f16) bits; below 2^-14 f16 has steps of
// 2^-24.
Bound bound(DType dtype) {
  constexpr double kLargest = 6;  // of the normal values here
  const double f32 = 16 * kLargest * 0x1p-24;
  if (dtype == DType::kBF16) return {f32, 0x1p-8};
  if (dtype == DType::kF16) return {f32 + 0x1p-25, 0x1p-11};
  return {f32, 0};
}

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

TEST_F(CudaUpsample, GivesTheTextbookValues) {
  const Tensor x = Tensor::of({1, 1, 2, 1}, {0, 4});
  const auto run = [&](bool align_corners) {
    return run_cuda(Upsample{align_corners}, {x}, {})[0].values();
  };
  using testing::ElementsAre;
  using testing::FloatEq;
  EXPECT_THAT(run(false), ElementsAre(0, 1, 3, 4, 0, 1, 3, 4));
  EXPECT_THAT(run(true), ElementsAre(0, FloatEq(4.0f / 3), FloatEq(8.0f / 3), 4, 0,
                                     FloatEq(4.0f / 3), FloatEq(8.0f / 3), 4));
}

TEST_F(CudaUpsample, MatchesTheReferenceAtEveryChannelTailAndSize) {
  for (const bool align_corners : {false, true}) {
    for (const std::int64_t c : {1, 3, 4, 8, 9, 24}) {
      for (const auto& [h, w] : {std::pair{1, 1}, {1, 4}, {2, 1}, {5, 7}}) {
        SCOPED_TRACE(fmt::format("{} x {} x {}, {}", h, w, c, align_corners));
        const Tensor x = random({2, h, w, c}, 5);
        for (const DType dtype : kFloats)
          check_cuda(Upsample{align_corners}, {x.rounded_to(dtype)}, {}, bound(dtype));
      }
    }
  }
}

// Long axes, where the source coordinate of a rounded formula could slip to another pixel.
TEST_F(CudaUpsample, KeepsCoordinatesExactOnLongAxes) {
  for (const bool align_corners : {false, true}) {
    check_cuda(Upsample{align_corners}, {random({1, 1, 1501, 1}, 8)}, {}, bound(DType::kF32));
    check_cuda(Upsample{align_corners}, {random({1, 151, 1, 1}, 8)}, {}, bound(DType::kF32));
  }
}

TEST_F(CudaUpsample, RowOfABatchIsThatRowAlone) {
  for (const bool align_corners : {false, true})
    check_cuda_batch(Upsample{align_corners}, {random({3, 4, 5, 6}, 7)}, {});
}

TEST_F(CudaUpsample, LeavesAConstantMapAlone) {
  const Tensor x = Tensor::of({1, 3, 3, 2}, std::vector<float>(18, 0.1f));
  for (const bool align_corners : {false, true}) {
    for (const float value : run_cuda(Upsample{align_corners}, {x}, {})[0].values())
      EXPECT_EQ(value, 0.1f);
  }
}

TEST_F(CudaUpsample, NanStaysNearItsPixel) {
  std::vector<float> values(5 * 5, 1);
  values[12] = NAN;  // pixel (2, 2) reaches rows and columns 3 to 6
  const auto y = run_cuda(Upsample{false}, {Tensor::of({1, 5, 5, 1}, values)}, {})[0].values();
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t row = i / 10, column = i % 10;
    EXPECT_EQ(std::isnan(y[i]), row >= 3 && row <= 6 && column >= 3 && column <= 6) << i;
  }
}

}  // namespace
}  // namespace tessera::test
