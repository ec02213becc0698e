#include "kernels/ops/softmax/softmax.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

// p = e / s with e = exp(-t), t = max - x. Precision t costs e t 2^-24 <= 0.37 2^-24, the
// exponential 2 ULP <= 4 * 2^-24 e, the sum of c terms at most c 2^-24 s plus what its terms carry;
// p <= 1.
test::Bound bound(std::int64_t c) {
  return {(10 + 2 * static_cast<double>(c)) * 0x1p-24, 0};
}

std::vector<float> run(Shape shape, const std::vector<float>& values) {
  return test::run_cpu(Softmax{}, {Tensor::of(shape, values)}, {}, 1)[0].values();
}

TEST(Softmax, MatchesTheReferenceAtEveryClassCountAndTail) {
  for (const std::int64_t c : {1, 2, 3, 4, 5, 15, 16, 17, 30, 257, 1000}) {
    for (const std::int64_t pixels : {1, 3, 7, 8, 9, 15, 16, 17, 33}) {
      SCOPED_TRACE(fmt::format("{} x {}", pixels, c));
      const Tensor x = test::random({pixels, c}, 25, 4);
      test::check_cpu(Softmax{}, {x}, {}, bound(c));
      test::check_cpu(Softmax{}, {x.rounded_to(DType::kBF16)}, {}, bound(c));
    }
  }
}

TEST(Softmax, MatchesAcrossTasks) {
  test::check_cpu(Softmax{}, {test::random({2, 70, 71, 2}, 26, 3)}, {}, bound(2));
  test::check_cpu(Softmax{}, {test::random({1, 45, 71, 3}, 26, 30)}, {}, bound(3));
}

TEST(Softmax, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const std::int64_t c : {1, 2, 3, 4, 7}) {
      const Tensor x = test::random({37, c}, 27, 20);
      test::check_cpu(Softmax{}, {x}, {}, bound(c));
      test::check_cpu(Softmax{}, {x.rounded_to(DType::kBF16)}, {}, bound(c));
    }
  });
}

TEST(Softmax, TakesLargeLogitsAndOutliers) {
  using testing::ElementsAre;
  using testing::FloatEq;
  test::for_each_target([] {
    EXPECT_THAT(run({3, 2}, {1e4f, -1e4f, 1e4f, 1e4f, -1e4f, -1e4f}),
                ElementsAre(1, 0, 0.5f, 0.5f, 0.5f, 0.5f));
    EXPECT_THAT(run({1, 3}, {0, -INFINITY, 0}), ElementsAre(0.5f, 0, 0.5f));
    EXPECT_THAT(run({1, 4}, {3e38f, -3e38f, 0, 3e38f}), ElementsAre(0.5f, 0, 0, 0.5f));
    EXPECT_THAT(run({1, 5}, std::vector<float>(5, -7)), testing::Each(FloatEq(0.2f)));
  });
}

// As PyTorch: what has no answer is NaN in every class of that pixel, and in no other.
TEST(Softmax, NaNStaysInItsPixel) {
  test::for_each_target([] {
    for (const float bad : {NAN, INFINITY}) {
      for (std::size_t k = 0; k < 3; ++k) {
        std::vector<float> values(20 * 3, 1);
        values[5 * 3 + k] = bad;
        const std::vector<float> result = run({20, 3}, values);
        for (std::size_t i = 0; i < result.size(); ++i)
          EXPECT_EQ(std::isnan(result[i]), i / 3 == 5) << i;
      }
    }
    EXPECT_THAT(run({1, 2}, {-INFINITY, -INFINITY}), testing::Each(testing::IsNan()));
    EXPECT_THAT(run({1, 1}, {NAN}), testing::Each(testing::IsNan()));
  });
}

TEST(Softmax, APixelDoesNotDependOnItsPosition) {
  for (const std::int64_t c : {2, 3, 4, 6}) {
    const std::vector<float> all = test::random({40, c}, 28, 5).values();
    const std::vector<float> whole = run({40, c}, all);
    for (std::int64_t first = 1; first < 20; ++first) {
      EXPECT_EQ(run({40 - first, c}, {all.begin() + first * c, all.end()}),
                std::vector<float>(whole.begin() + first * c, whole.end()));
    }
  }
}

TEST(Softmax, NamesWhatItCannotTake) {
  const std::vector<TensorType> ids{{DType::kI32, {4}}}, scalar{{DType::kF32, Shape{}}};
  EXPECT_THAT([&] { infer(Softmax{}, ids); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("i32 (4)")));
  EXPECT_THAT([&] { infer(Softmax{}, scalar); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("last axis")));
}

}  // namespace
}  // namespace tessera
