// Softmax on the GPU: a lane, a warp or a block per row.
#include "kernels/ops/softmax/softmax.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaSoftmax = CudaTest;

// p = e / s with e = exp(-t), t = max - x. Precision t costs e t 2^-24 <= 0.37 2^-24, the
// exponential 2 ULP <= 4 * 2^-24 e, the sum of c terms at most c 2^-24 s plus what its terms carry;
// p <= 1.
Bound bound(std::int64_t c) {
  return {(10 + 2 * static_cast<double>(c)) * 0x1p-24, 0};
}

std::vector<float> run(Shape shape, const std::vector<float>& values) {
  return run_cuda(Softmax{}, {Tensor::of(shape, values)}, {})[0].values();
}

// A row of each technique: by a lane, a warp, a block.
constexpr std::int64_t kOfEachTechnique[] = {3, 40, 2100};

TEST_F(CudaSoftmax, MatchesTheReferenceAtEveryClassCount) {
  for (const std::int64_t c : {1, 2, 3, 4, 5, 8, 16, 30, 31, 32, 33, 64, 257, 2048, 2049}) {
    SCOPED_TRACE(c);
    const Tensor x = random({5, c}, 25, 4);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      check_cuda(Softmax{}, {x.rounded_to(dtype)}, {}, bound(c));
  }
}

TEST_F(CudaSoftmax, MatchesTheReferenceAtEveryRowCount) {
  for (const std::int64_t c : {2, 3, 4}) {
    for (const std::int64_t rows : {1, 31, 32, 33, 127, 128, 129, 300}) {
      SCOPED_TRACE(fmt::format("{} x {}", rows, c));
      const Tensor x = random({rows, c}, 26, 4);
      for (const DType dtype : {DType::kF32, DType::kBF16})
        check_cuda(Softmax{}, {x.rounded_to(dtype)}, {}, bound(c));
    }
  }
}

TEST_F(CudaSoftmax, TakesLargeLogitsAndOutliers) {
  using testing::ElementsAre;
  EXPECT_THAT(run({3, 2}, {1e4f, -1e4f, 1e4f, 1e4f, -1e4f, -1e4f}),
              ElementsAre(1, 0, 0.5f, 0.5f, 0.5f, 0.5f));
  EXPECT_THAT(run({1, 3}, {0, -INFINITY, 0}), ElementsAre(0.5f, 0, 0.5f));
  EXPECT_THAT(run({1, 4}, {3e38f, -3e38f, 0, 3e38f}), ElementsAre(0.5f, 0, 0, 0.5f));
  for (const std::int64_t c : kOfEachTechnique) {
    std::vector<float> values(static_cast<std::size_t>(c), -7);
    EXPECT_THAT(run({1, c}, values),
                testing::Each(testing::FloatNear(1.0f / static_cast<float>(c), 0x1p-20f)));
    values.back() = 1e30f;
    std::vector<float> only(values.size(), 0);
    only.back() = 1;
    EXPECT_EQ(run({1, c}, values), only);
  }
}

// As PyTorch: what has no answer is NaN in every class of that row, and in no other.
TEST_F(CudaSoftmax, NanStaysInItsRow) {
  for (const std::int64_t c : kOfEachTechnique) {
    for (const float bad : {NAN, INFINITY}) {
      for (const std::int64_t k : {std::int64_t{0}, c - 1}) {
        std::vector<float> values(static_cast<std::size_t>(3 * c), 1);
        values[static_cast<std::size_t>(c + k)] = bad;
        const std::vector<float> y = run({3, c}, values);
        for (std::size_t i = 0; i < y.size(); ++i)
          ASSERT_EQ(std::isnan(y[i]), i / static_cast<std::size_t>(c) == 1) << i;
      }
    }
    const std::vector<float> none(static_cast<std::size_t>(c), -INFINITY);
    EXPECT_THAT(run({1, c}, none), testing::Each(testing::IsNan()));
  }
  EXPECT_THAT(run({1, 1}, {NAN}), testing::Each(testing::IsNan()));
}

TEST_F(CudaSoftmax, ARowDoesNotDependOnItsPosition) {
  for (const std::int64_t c : kOfEachTechnique)
    check_cuda_batch(Softmax{}, {random({c == 3 ? 40 : 3, c}, 28, 5)}, {});
}

}  // namespace
}  // namespace tessera::test
