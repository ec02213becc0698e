// Backward of softmax on the GPU: a lane, a warp or a block per row.
#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaSoftmaxBackward = CudaTest;

// Forward: as in softmax_test.cpp. Backward: the sum of c products errs by at most c 2^-24 of the
// sum of |y dy|, which is at most 6, as the probabilities add up to one; the difference and the
// product round once each, at magnitudes up to 12. Storing adds one rounding.
BackwardBounds bounds(std::int64_t c, DType dtype) {
  const auto terms = static_cast<double>(c);
  const double rounding = dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0;
  const double step = dtype == DType::kF16 ? 0x1p-25 : 0;
  return {.forward = {(10 + 2 * terms) * 0x1p-24, 0},
          .input = {(24 + 6 * terms) * 0x1p-24 + step, rounding},
          .weight = {}};
}

TEST_F(CudaSoftmaxBackward, MatchesTheReferenceAtEveryClassCount) {
  for (const std::int64_t c : {1, 2, 3, 4, 31, 32, 33, 257, 2048, 2049}) {
    SCOPED_TRACE(c);
    const TrainCase<Softmax> softmax{{}, {random({3, c}, 1, 4)}, {}};
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      check_cuda_backward(softmax, bounds(c, dtype), {}, {dtype, DType::kF32});
  }
}

TEST_F(CudaSoftmaxBackward, MatchesTheReferenceAtEveryRowCount) {
  for (const std::int64_t c : {3, 32, 40}) {
    for (const std::int64_t rows : {1, 31, 33, 129}) {
      SCOPED_TRACE(fmt::format("{} x {}", rows, c));
      check_cuda_backward(TrainCase<Softmax>{{}, {random({rows, c}, 2, 4)}, {}},
                          bounds(c, DType::kF32));
    }
  }
}

}  // namespace
}  // namespace tessera::test
