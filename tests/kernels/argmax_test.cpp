#include "kernels/ops/argmax/argmax.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

constexpr test::Bound kExact{0, 0};

std::vector<int> run(Shape shape, const std::vector<float>& values) {
  const Tensor y = test::run_cpu(Argmax{}, {Tensor::of(shape, values)}, {}, 1)[0];
  const auto* ids = y.view().as<std::uint8_t>();
  return {ids, ids + y.type().shape.elements()};
}

// Few distinct values, so that ties are common.
Tensor coarse(Shape shape) {
  std::vector<float> values = test::random(shape, 29, 2).values();
  for (float& value : values) value = std::round(value);
  return Tensor::of(shape, values);
}

TEST(Argmax, MatchesTheReferenceAtEveryClassCountAndTail) {
  for (const std::int64_t c : {1, 2, 3, 4, 5, 16, 17, 256}) {
    for (const std::int64_t pixels : {1, 3, 7, 8, 9, 15, 16, 17, 33, 2049}) {
      SCOPED_TRACE(fmt::format("{} x {}", pixels, c));
      const Tensor x = coarse({pixels, c});
      test::check_cpu(Argmax{}, {x}, {}, kExact);
      test::check_cpu(Argmax{}, {x.rounded_to(DType::kBF16)}, {}, kExact);
    }
  }
}

TEST(Argmax, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const std::int64_t c : {1, 2, 3, 4, 7, 200}) {
      test::check_cpu(Argmax{}, {coarse({1, 5, 7, c})}, {}, kExact);
      test::check_cpu(Argmax{}, {coarse({37, c}).rounded_to(DType::kBF16)}, {}, kExact);
    }
  });
}

TEST(Argmax, TakesTheFirstOfEqualsAndReachesId255) {
  using testing::ElementsAre;
  EXPECT_THAT(run({2, 3}, {1, 2, 2, 5, 5, 5}), ElementsAre(1, 0));
  EXPECT_THAT(run({2, 2}, {0.0f, -0.0f, -0.0f, 0.0f}), ElementsAre(0, 0));
  std::vector<float> last(256, 0);
  last[255] = 1;
  EXPECT_THAT(run({1, 256}, last), ElementsAre(255));
}

TEST(Argmax, ANaNIsNeverTheLargest) {
  using testing::ElementsAre;
  test::for_each_target([] {
    EXPECT_THAT(run({5, 2}, {NAN, -INFINITY, NAN, 3, 3, NAN, NAN, NAN, -INFINITY, NAN}),
                ElementsAre(1, 1, 0, 0, 0));
    EXPECT_THAT(run({1, 3}, {1, NAN, 2}), ElementsAre(2));
    EXPECT_THAT(run({1, 3}, {NAN, 2, 1}), ElementsAre(1));
  });
}

TEST(Argmax, OneChannelIsAThreshold) {
  EXPECT_THAT(run({6, 1}, {0.5f, 0.50001f, 0, 1, NAN, INFINITY}),
              testing::ElementsAre(0, 1, 0, 1, 0, 1));
}

TEST(Argmax, DropsTheLastAxis) {
  const std::vector<TensorType> inputs{{DType::kF32, {2, 3, 4, 5}}};
  EXPECT_EQ(infer(Argmax{}, inputs)[0], (TensorType{DType::kU8, {2, 3, 4}}));
}

TEST(Argmax, NamesWhatItCannotTake) {
  const std::vector<TensorType> many{{DType::kF32, {4, 257}}}, ids{{DType::kI32, {4, 2}}};
  EXPECT_THAT([&] { infer(Argmax{}, many); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("(4, 257)")));
  EXPECT_THAT([&] { infer(Argmax{}, ids); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("i32 (4, 2)")));
}

}  // namespace
}  // namespace tessera
