// Crop-and-concat on the GPU: a copy, so equal to the reference to the byte.
#include "kernels/ops/crop_concat/crop_concat.h"

#include <gmock/gmock.h>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaCropConcat = CudaTest;
using Align = CropConcat::Align;

constexpr CropConcat kAll[] = {{Align::kCropSkip, true},
                               {Align::kCropSkip, false},
                               {Align::kPadUp, true},
                               {Align::kPadUp, false}};

TEST_F(CudaCropConcat, MatchesTheReference) {
  for (const CropConcat& op : kAll) {
    for (const auto& [dy, dx] : {std::pair{0, 0}, {1, 0}, {0, 1}, {2, 3}, {5, 4}}) {
      // Channels that copy as units of 2 (or 4), 4 and 16 bytes, and one of the two that does not.
      for (const auto& [cs, cu] : {std::pair{1, 1}, {3, 5}, {2, 6}, {16, 24}, {16, 17}}) {
        SCOPED_TRACE(fmt::format("crop {} skip_first {} difference {} {} channels {} {}",
                                 op.align == Align::kCropSkip, op.skip_first, dy, dx, cs, cu));
        const Tensor skip = random({2, 3 + dy, 4 + dx, cs}, 9), up = random({2, 3, 4, cu}, 10);
        for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
          check_cuda(op, {skip.rounded_to(dtype), up.rounded_to(dtype)}, {}, {0, 0});
      }
    }
  }
}

TEST_F(CudaCropConcat, RowsAroundABlock) {
  // 16-byte units of a row: 255, 256, 257.
  for (const std::int64_t w : {85, 128, 257}) {
    const std::int64_t units = w == 85 ? 3 : w == 128 ? 2 : 1;
    const Tensor skip = random({1, 2, w, 4}, 9);
    const Tensor up = random({1, 2, w, 4 * units}, 10);
    for (const CropConcat& op : kAll) check_cuda(op, {skip, up}, {}, {0, 0});
  }
}

TEST_F(CudaCropConcat, RowOfABatchIsThatRowAlone) {
  for (const CropConcat& op : kAll)
    check_cuda_batch(op, {random({3, 6, 7, 5}, 9), random({3, 4, 6, 3}, 10)}, {});
}

TEST_F(CudaCropConcat, JoinsByHand) {
  const Tensor skip = Tensor::of({1, 1, 3, 1}, {1, 2, 3}), up = Tensor::of({1, 1, 2, 1}, {8, 9});
  using testing::ElementsAre;
  const auto run = [&](CropConcat op) { return run_cuda(op, {skip, up}, {})[0].values(); };
  EXPECT_THAT(run({Align::kCropSkip, true}), ElementsAre(1, 8, 2, 9));
  EXPECT_THAT(run({Align::kCropSkip, false}), ElementsAre(8, 1, 9, 2));
  EXPECT_THAT(run({Align::kPadUp, true}), ElementsAre(1, 8, 2, 9, 3, 0));
}

}  // namespace
}  // namespace tessera::test
