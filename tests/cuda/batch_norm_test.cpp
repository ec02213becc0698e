// Batch normalisation on the GPU against its reference.
#include "kernels/ops/batch_norm/batch_norm.h"

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaBatchNorm = CudaTest;

std::vector<Tensor> weights_of(std::int64_t c) {
  std::vector<float> variance;
  for (const float value : random({c}, 15).values()) variance.push_back(0.25f + value * value);
  return {random({c}, 12), random({c}, 13), random({c}, 14), Tensor::of({c}, variance)};
}

// As on the CPU: scale, shift, product and sum round once each; with |x|, gamma, beta, mean below 5
// and variance above 0.25 the terms stay below 5 * 5 / 0.5 = 50 each, so the error stays below
// (50 + 50 + 100 + 100) 2^-24. A result of 8 (bf16) or 11 bits (f16) is rounded once more.
Bound bound_for(DType dtype) {
  const double rounding = dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0;
  return {300 * 0x1p-24, rounding};
}

TEST_F(CudaBatchNorm, AgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    // Channels: one, odd, whole vectors of 16 bytes, and one more or less.
    for (const std::int64_t c : {1, 3, 4, 7, 8, 9, 64, 100}) {
      for (const std::int64_t pixels : {1, 7, 33}) {
        SCOPED_TRACE(fmt::format("{} {} x {}", name_of(dtype), pixels, c));
        check_cuda(BatchNorm{1e-3}, {random({1, 1, pixels, c}, 16).rounded_to(dtype)},
                   weights_of(c), bound_for(dtype));
      }
    }
  }
}

TEST_F(CudaBatchNorm, TakesAnyRankAndWeightsOfOtherTypes) {
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights_of(6)) narrow.push_back(weight.rounded_to(DType::kBF16));
  check_cuda(BatchNorm{}, {random({1201, 6}, 17)}, narrow, bound_for(DType::kF32));
  check_cuda(BatchNorm{}, {random({6}, 17)}, narrow, bound_for(DType::kF32));
}

TEST_F(CudaBatchNorm, RowOfABatchIsThatRowAlone) {
  check_cuda_batch(BatchNorm{}, {random({3, 5, 4, 8}, 18)}, weights_of(8));
  check_cuda_batch(BatchNorm{}, {random({3, 5, 4, 5}, 18).rounded_to(DType::kBF16)}, weights_of(5));
}

TEST_F(CudaBatchNorm, NanAndInfinityStayInTheirElement) {
  std::vector<float> x = random({1, 3, 3, 4}, 19).values();
  x[5] = NAN;
  x[10] = INFINITY;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const auto y =
        run_cuda(BatchNorm{}, {Tensor::of({1, 3, 3, 4}, x).rounded_to(dtype)}, weights_of(4))[0]
            .values();
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_EQ(std::isnan(y[i]), i == 5) << i;
      EXPECT_EQ(std::isinf(y[i]), i == 10) << i;
    }
  }
}

}  // namespace
}  // namespace tessera::test
