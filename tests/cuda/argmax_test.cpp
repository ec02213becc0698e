// Class ids on the GPU: a lane or a warp per row.
#include "kernels/ops/argmax/argmax.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaArgmax = CudaTest;

std::vector<int> run(Shape shape, const std::vector<float>& values) {
  const Tensor y = run_cuda(Argmax{}, {Tensor::of(shape, values)}, {})[0];
  const auto* ids = y.view().as<std::uint8_t>();
  return {ids, ids + y.type().shape.elements()};
}

// Few distinct values, so that ties are common.
Tensor coarse(Shape shape) {
  std::vector<float> values = random(shape, 29, 2).values();
  for (float& value : values) value = std::round(value);
  return Tensor::of(shape, values);
}

TEST_F(CudaArgmax, MatchesTheReferenceAtEveryClassAndRowCount) {
  for (const std::int64_t c : {1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 256}) {
    for (const std::int64_t rows : {1, 5, 31, 32, 33, 129}) {
      if (c > 5 && rows > 33) continue;
      SCOPED_TRACE(fmt::format("{} x {}", rows, c));
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
        check_cuda(Argmax{}, {coarse({rows, c}).rounded_to(dtype)}, {}, {0, 0});
    }
  }
}

TEST_F(CudaArgmax, TakesTheFirstOfEqualsAndReachesId255) {
  using testing::ElementsAre;
  EXPECT_THAT(run({2, 3}, {1, 2, 2, 5, 5, 5}), ElementsAre(1, 0));
  EXPECT_THAT(run({2, 2}, {0.0f, -0.0f, -0.0f, 0.0f}), ElementsAre(0, 0));
  std::vector<float> values(256, 0);
  EXPECT_THAT(run({1, 256}, values), ElementsAre(0));
  values[255] = 1;
  EXPECT_THAT(run({1, 256}, values), ElementsAre(255));
  values[77] = values[109] = 1;  // both of lane 13
  EXPECT_THAT(run({1, 256}, values), ElementsAre(77));
}

TEST_F(CudaArgmax, ANaNIsNeverTheLargest) {
  using testing::ElementsAre;
  EXPECT_THAT(run({5, 2}, {NAN, -INFINITY, NAN, 3, 3, NAN, NAN, NAN, -INFINITY, NAN}),
              ElementsAre(1, 1, 0, 0, 0));
  EXPECT_THAT(run({1, 3}, {1, NAN, 2}), ElementsAre(2));
  EXPECT_THAT(run({1, 3}, {NAN, 2, 1}), ElementsAre(1));
  std::vector<float> values(100, NAN);
  EXPECT_THAT(run({1, 100}, values), ElementsAre(0));
  values[70] = -INFINITY;
  EXPECT_THAT(run({1, 100}, values), ElementsAre(70));
  values[99] = -INFINITY;
  EXPECT_THAT(run({1, 100}, values), ElementsAre(70));
}

TEST_F(CudaArgmax, OneChannelIsAThreshold) {
  EXPECT_THAT(run({6, 1}, {0.5f, 0.50001f, 0, 1, NAN, INFINITY}),
              testing::ElementsAre(0, 1, 0, 1, 0, 1));
}

TEST_F(CudaArgmax, RowOfABatchIsThatRowAlone) {
  for (const std::int64_t c : {3, 50}) check_cuda_batch(Argmax{}, {coarse({4, 7, c})}, {});
}

}  // namespace
}  // namespace tessera::test
